"""Commands without the price of starting Python: forked from a process that has imported everything already.

For tests that type many commands. What is typed is run as ever, in a process, folder and environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tests.cli.commands import Ended
from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

_MESSAGE_BYTES = 1 << 18
_LISTENING = "listening"


@dataclass
class Typed:
    """A command that runs; what it prints lies in two files."""

    pid: int
    connection: socket.socket
    out: Path
    err: Path
    code: int | None = None

    async def ended(self) -> Ended:
        """Wait for its end."""
        if self.code is None:
            told = await asyncio.get_running_loop().sock_recv(self.connection, 64)
            self.connection.close()
            self.code = int(told)
        return Ended(self.code, self.out.read_text(), self.err.read_text())


class Warm:
    """Starts commands in no time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = str(folder / "warm.sock")
        self._started = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.support.warm", self._address],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == _LISTENING
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    async def type(self, *command: str, cwd: Path, variables: Mapping[str, str]) -> Typed:
        """Start `toolspan …`, `python FILE …` or `python -m MODULE …`."""
        self._started += 1
        out, err = (self._folder / f"{self._started}.{name}" for name in ("out", "err"))
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._address)
        with out.open("wb") as to_out, err.open("wb") as to_err:
            request = json.dumps({"command": command, "cwd": str(cwd), "variables": dict(variables)}).encode()
            socket.send_fds(connection, [request], [to_out.fileno(), to_err.fileno()])
        connection.setblocking(False)
        pid = int(await asyncio.get_running_loop().sock_recv(connection, 64))
        return Typed(pid, connection, out, err)


def _serve(address: str) -> None:
    """Fork whatever is asked for; each with a process beside it that waits for its end."""
    _import_everything()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print(_LISTENING, flush=True)  # noqa: T201
    while True:
        connection, _ = listener.accept()
        dies_with_us = ends_with_us(signal.SIGKILL)
        if os.fork():
            connection.close()
            continue
        _arm(dies_with_us)
        listener.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asked, fds, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 2)
        dies_with_us = ends_with_us(signal.SIGKILL)
        pid = os.fork()
        if not pid:
            _arm(dies_with_us)
            connection.close()
            _become(json.loads(asked), *fds)
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)


def _arm(dies_with_them: Callable[[], None] | None) -> None:
    if dies_with_them is not None:
        dies_with_them()


def _become(asked: dict[str, Any], out: int, err: int) -> NoReturn:
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["variables"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for given, wanted in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(given, wanted)
    program, *arguments = asked["command"]
    code = 1
    try:
        _run(program, arguments)
        code = 0
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run(program: str, arguments: Sequence[str]) -> None:
    sys.path.insert(0, str(Path.cwd()))
    if program == "toolspan":
        sys.argv = [program, *arguments]
        runpy.run_module("toolspan", run_name="__main__")
    elif arguments[0] == "-m":
        sys.argv = list(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        runpy.run_path(arguments[0], run_name="__main__")


def _import_everything() -> None:
    from importlib import import_module  # noqa: PLC0415

    import toolspan  # noqa: PLC0415
    from toolspan.cli import main  # noqa: PLC0415

    for name in toolspan.__all__:
        getattr(toolspan, name)
    for module, _ in main._COMMANDS.values():
        import_module(module)
    for module in ("gateway.server", "worker.worker", "worker.supervisor", "monitor.reporter", "telemetry.exporters"):
        import_module(f"toolspan.{module}")


if __name__ == "__main__":
    _serve(sys.argv[1])
