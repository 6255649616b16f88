"""Processes of `toolspan` that need not import it first: each is forked from one that has, and then is like any other.

They are real processes with a pid, an environment and a folder of their own. Importing is most of what a short command
does, and the suite types more than a thousand of them.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from runpy import run_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What Python and OpenTelemetry read when they are imported: too late in a process that has imported them.
_READ_ON_IMPORT: Final = ("PYTHON", "OTEL_PYTHON_", "OTEL_PROPAGATORS")


def fits(environment: Mapping[str, str]) -> bool:
    """Tell whether a process with these variables may be forked from one that was started with ours."""
    return all(
        environment.get(name) == os.environ.get(name)
        for name in environment.keys() | os.environ.keys()
        if name.startswith(_READ_ON_IMPORT) and name != "PYTHONWARNINGS"
    )


class Process:
    """One process, to be waited for and ended like those of `subprocess`."""

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._lines = told.makefile("r")
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None

    def fileno(self) -> int:
        """Give what can be read from when it has ended."""
        return self._told.fileno()

    def poll(self) -> int | None:
        """Give its exit code, negative for a signal; None while it runs."""
        if self.returncode is None and _is_readable(self):
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Wait for its end."""
        if self.returncode is None:
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)


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
        if self.returncode is None:
            os.kill(self.pid, number)

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
    return _start(arguments, environment, folder, output, output)


async def start_with_pipes(arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> AsyncProcess:
    """Start `toolspan` with *arguments*, and read what it says."""
    (out, theirs_out), (err, theirs_err) = os.pipe(), os.pipe()
    process = _start(arguments, environment, folder, theirs_out, theirs_err)
    os.close(theirs_out)
    os.close(theirs_err)
    return AsyncProcess(process, await _reader(out), await _reader(err))


async def _reader(fd: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    pipe = os.fdopen(fd, "rb", buffering=0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


def _start(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path | None, stdout: int, stderr: int
) -> Process:
    told, theirs = socket.socketpair()
    request = {"arguments": [*arguments], "environment": {**environment}, "folder": str(folder or Path.cwd())}
    with theirs:
        socket.send_fds(_preloaded(), [json.dumps(request).encode()], [theirs.fileno(), stdout, stderr])
    return Process(told)


def _is_readable(process: Process) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(0))


@cache
def _preloaded() -> socket.socket:
    """Start what the others are forked from; it ends with us."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    @atexit.register
    def _end() -> None:
        ours.close()
        process.wait()

    return ours


# ── what follows runs in the process that has imported everything ────────────────────────────────────────────────────


def _import_all() -> None:
    for module in walk_packages(import_module("toolspan").__path__, "toolspan."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)
    # Or each process, at its end, would go through all that was imported, and copy it.
    gc.collect()
    gc.freeze()


def _fork_for_each(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request and tell its exit code; returns in the processes that are to become `toolspan`."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                pid, told = key.data
                selector.unregister(key.fileobj)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                _tell(told, code)
                told.close()
                continue
            message, passed, _, _ = socket.recv_fds(requests, 1 << 20, 3)
            if not message:
                sys.exit()
            told_fd, *output = passed
            if (pid := os.fork()) == 0:
                for one in list(selector.get_map().values()):
                    os.close(one.fd)
                    if one.data is not None:
                        one.data[1].close()
                selector.close()
                requests.detach()
                os.close(told_fd)
                return {**json.loads(message), "output": output}
            for fd in output:
                os.close(fd)
            told = socket.socket(fileno=told_fd)
            _tell(told, pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _tell(told: socket.socket, number: int) -> None:
    # Nobody listens any more to what a test left behind.
    with suppress(BrokenPipeError):
        told.sendall(f"{number}\n".encode())


def _become(arguments: list[str], environment: dict[str, str], folder: str, output: list[int]) -> None:
    for fd, theirs in enumerate(output, start=1):
        os.dup2(theirs, fd)
        os.close(theirs)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if environment.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")
    sys.path[0] = folder
    sys.argv[1:] = arguments
    run_module("toolspan", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _import_all()
    _become(**_fork_for_each(socket.socket(fileno=int(sys.argv[1]))))
