"""Processes of `toolspan` that need not import it first: each is forked from one that has, and then is like any other.

They are real processes with a pid, an environment and a folder of their own. Importing is most of what a short command
does, and the suite types more than a thousand of them.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import socket
import sys
import warnings
from functools import cache
from runpy import run_module
from typing import TYPE_CHECKING, Final

from tests.support.forks import Forks, fork_for_each, import_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.support.forks import Process

# What Python and OpenTelemetry read when they are imported: too late in a process that has imported them.
_READ_ON_IMPORT: Final = ("PYTHON", "OTEL_PYTHON_", "OTEL_PROPAGATORS")


def fits(environment: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables may be forked from one that was started with ours."""
    return all(
        environment.get(name) == os.environ.get(name)
        for name in environment.keys() | os.environ.keys()
        if name.startswith(_READ_ON_IMPORT) and name != "PYTHONWARNINGS"
    )


class AsyncProcess:
    """One process with pipes, like those of `asyncio`."""

    def __init__(self, process: Process, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader) -> None:
        self.pid = process.pid
        self.stdout = stdout
        self.stderr = stderr
        self._process = process
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process, self._has_ended)

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process)
        self._process.wait()
        self._ended.set()

    @property
    def returncode(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int | None:
        """Wait for its end."""
        await self._ended.wait()
        return self.returncode

    async def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end, and give what it said."""
        out, err, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, err


def start(arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path | None, output: int) -> Process:
    """Start `toolspan` with *arguments*; what it says goes to the file *output*."""
    return _preloaded().start(arguments, environment=environment, folder=folder, output=[output])


async def start_with_pipes(arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> AsyncProcess:
    """Start `toolspan` with *arguments*, and read what it says."""
    (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
    process = _preloaded().start(arguments, environment=environment, folder=folder, output=[theirs_out, theirs_err])
    os.close(theirs_out)
    os.close(theirs_err)
    return AsyncProcess(process, await _reader(out), await _reader(err))


async def _reader(fd: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


@cache
def _preloaded() -> Forks:
    """Start what the others are forked from."""
    forks = Forks(["-m", "tests.support.preloaded"])
    atexit.register(forks.end)
    return forks


# ── what follows runs in the process that has imported everything ────────────────────────────────────────────────────


if __name__ == "__main__":
    import_all()
    fork_for_each(socket.socket(fileno=int(sys.argv[1])))
    if os.environ.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    run_module("toolspan", run_name="__main__", alter_sys=True)
