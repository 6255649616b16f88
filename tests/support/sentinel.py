"""A primary, a replica, and Sentinels that watch them: real processes, as one finds them in the field."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
import redis

from tests.support.guarded import Guarded
from tests.support.ports import free_port
from toolspan.offspring import ends_with_us
from toolspan.testing.server import _wheel_binary

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE = "tools-primary"


class Fleet:
    """Two servers with a password, and two Sentinels with another; the replica has all before the test begins."""

    def __init__(self, folder: Path, *, kind: str) -> None:
        binary = _wheel_binary() if kind == "valkey" else shutil.which("redis-server")
        if binary is None:
            pytest.skip("redis-server is not installed")
        self._binary = binary
        self._folder = folder
        self._sentinels: list[subprocess.Popen[bytes]] = []
        options = ["--requirepass", "of-servers", "--masterauth", "of-servers", "--repl-diskless-sync-delay", "0"]
        self.servers = [Guarded(binary=binary, tcp=True, aof=True, options=options) for _ in range(2)]
        self.ports = [free_port(), free_port()]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://:of-servers@{hosts}/{SERVICE}/0?sentinel_password=of-sentinels"

    def client(self, number: int) -> redis.Redis:
        return redis.Redis(port=self.servers[number].port, password="of-servers", decode_responses=True)  # noqa: S106

    def sentinel(self, number: int) -> redis.Redis:
        return redis.Redis(port=self.ports[number], password="of-sentinels", decode_responses=True)  # noqa: S106

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        with self.client(1) as replica:
            replica.execute_command("REPLICAOF", "127.0.0.1", self.servers[0].port)
            _until(lambda: replica.info("replication")["master_link_status"] == "up")
        for number, port in enumerate(self.ports):
            self._sentinels.append(self._sentinel(number, port))
        for number in range(len(self.ports)):
            with self.sentinel(number) as sentinel:
                _until(lambda s=sentinel: _ready(s))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._sentinels:
            process.kill()
            process.wait()
        for server in self.servers:
            server.stop()

    def _sentinel(self, number: int, port: int) -> subprocess.Popen[bytes]:
        config = self._folder / f"sentinel-{number}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\nrequirepass of-sentinels\nsentinel sentinel-pass of-sentinels\n"
            f"dir {self._folder}\nlogfile {self._folder}/sentinel-{number}.log\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2\n"
            f"sentinel auth-pass {SERVICE} of-servers\n"
            f"sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 3000\n"
        )
        command: Sequence[str] = [self._binary, str(config), "--sentinel"]
        return subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
        )


def _ready(sentinel: redis.Redis) -> bool:
    try:
        told = sentinel.execute_command("SENTINEL", "MASTER", SERVICE)
    except redis.RedisError:
        return False
    facts = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
    return int(facts["num-slaves"]) == 1 and int(facts["num-other-sentinels"]) == 1


def _until(condition: object) -> None:
    deadline = time.monotonic() + 20
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the fleet does not come up"
        time.sleep(0.05)
