"""Where one run takes place: a server of its own, and the programs that use it; at its end nothing is left."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import redis

from benchmarks.processes import Failure, Program, cpu_seconds_of
from toolspan.keys import Keys
from toolspan.testing import EmbeddedServer
from toolspan.testing.ports import ReservedPort

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

_LOOK_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 300.0
_NOT_THE_WORKERS: Final = ("config", "info", "xlen", "xinfo", "zcard", "dbsize", "client", "ping")
"""What we ask ourselves while others work."""


class Stage:
    """A fresh server. It is reached over TCP: not all of those who are compared find a socket in the file system."""

    def __init__(self) -> None:
        self.keys = Keys()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._server = self._open.enter_context(EmbeddedServer(tcp=True))
        self.url = self._server.tcp_url
        self.look = redis.Redis.from_url(self._server.url, socket_timeout=_PATIENCE_SECONDS)
        self._open.callback(self.look.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def start(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None, *, hears: bool = False
    ) -> Program:
        """Start *command*, which is told by a variable where the server is."""
        program = Program(command, {"TOOLSPAN_REDIS_URL": self.url, **(variables or {})}, hears=hears)
        self._open.callback(program.end)
        return program

    def free_port(self) -> int:
        """Give a port that nobody else is given until the end."""
        port = ReservedPort()
        self._open.callback(port.release)
        return port.number

    def until(
        self, fact: Callable[[], bool], what: str, *programs: Program, look_seconds: float = _LOOK_SECONDS
    ) -> None:
        """Wait until *fact*; meanwhile none of *programs* may end."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not fact():
            for program in programs:
                program.check()
            if time.monotonic() > deadline:
                message = f"it took too long until {what}"
                raise Failure(message)
            time.sleep(look_seconds)

    def server(self) -> str:
        """Tell which server it is, and its version."""
        info: dict[str, Any] = self.look.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info[f'{name}_version']}"

    def server_cpu_seconds(self) -> float:
        """User and system time of the server."""
        return cpu_seconds_of(self._server.pid)

    def commands(self) -> int:
        """How many commands were run so far, those inside of scripts included."""
        stats: dict[str, Any] = self.look.info("commandstats")
        return sum(
            stat["calls"]
            for name, stat in stats.items()
            if not name.removeprefix("cmdstat_").startswith(_NOT_THE_WORKERS)
        )
