"""The processes of a soak, all of them real: whoever ends is started again, as an orchestrator would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.soak.sender import OTHER_STREAM
from tests.support.variables import not_ours
from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from tests.support.proxy import Proxy
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer

Process = subprocess.Popen[bytes]

_WORKER: Final = ("toolspan", "worker", "--tools", "tests.soak.tools")
_PROXIED: Final = ("far", "gateway")
"""Who comes to Redis through the proxy, where connections are cut between two steps."""

_MEMBERS: Final = {
    "far": (*_WORKER, "--name", "far"),
    "near": (*_WORKER, "--name", "near", "--concurrency", "20"),
    "twins": (*_WORKER, "--name", "twins", "--processes", "2"),
    "other": (*_WORKER, "--name", "other", "--stream", OTHER_STREAM),
    "gateway": ("tests.soak.caller",),
}
_END_SECONDS: Final = 180


class Fleet:
    """Workers of all sorts, and a gateway."""

    def __init__(self, server: EmbeddedServer, proxy: Proxy, settings: Settings, folder: Path) -> None:
        self.server = server
        self.proxy = proxy
        self.settings = settings
        self.folder = folder
        self.exits: Counter[int] = Counter()
        self._started = 0
        self._members = {name: self._start(name) for name in _MEMBERS}

    @property
    def gateway(self) -> Process:
        """The one that calls."""
        return self._members["gateway"]

    def workers(self) -> list[int]:
        """Give the processes that work now, the children of supervisors too, in an order that stays."""
        pids = []
        for name, member in self._members.items():
            if name != "gateway" and member.poll() is None:
                pids += [member.pid, *_children(member.pid)]
        return pids

    def look_after(self) -> None:
        """Start again whoever has ended."""
        for name, member in self._members.items():
            code = member.poll()
            if code is not None:
                self.exits[code] += 1
                self._members[name] = self._start(name)

    def end_gateway(self) -> int:
        """Have it finish what it has begun and go, and give its exit code."""
        gateway = self._members.pop("gateway")
        gateway.send_signal(signal.SIGTERM)
        return gateway.wait(timeout=_END_SECONDS)

    def end(self) -> dict[str, int]:
        """Have all workers drain, and give the exit codes that are not 0."""
        for pid in self.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        for member in self._members.values():
            member.send_signal(signal.SIGTERM)
        codes = {name: member.wait(timeout=_END_SECONDS) for name, member in self._members.items()}
        return {name: code for name, code in codes.items() if code}

    def left(self) -> list[int]:
        """Name the processes that are left although all have ended."""
        mark = f"SOAK_FOLDER={self.folder}\0".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in entry.read_bytes():
                    found.append(int(entry.parent.name))
        return found

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for member in self._members.values():
            member.wait()

    def _start(self, name: str) -> Process:
        self._started += 1
        url = self.proxy.url if name in _PROXIED else self.server.url
        environment = not_ours() | {
            "SOAK_FOLDER": str(self.folder),
            "TOOLSPAN_REDIS_URL": url,
            "TOOLSPAN_LEASE_MS": str(self.settings.lease_ms),
            "TOOLSPAN_REAP_AFTER_MS": str(self.settings.reap_after_ms),
            "TOOLSPAN_DRAIN_SECONDS": str(self.settings.drain_seconds),
        }
        with (self.folder / f"{name}-{self._started}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *_MEMBERS[name]],
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
            )


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return sorted(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return []
