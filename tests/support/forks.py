"""Forks a process for each request, out of one that has imported everything; the other side asks for them."""

from __future__ import annotations

import gc
import json
import os
import selectors
import socket
import subprocess
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT: Final = Path(__file__).parents[2]
_MOST_BYTES: Final = 1 << 20
_MOST_FILES: Final = 3


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
        if self.returncode is None and not _is_readable(self):
            # Its end is told before its pid can be anybody else's, and may come just now.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Forks:
    """The process that forks, started with *command* and the socket on which it is asked; it ends with us."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._asked, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def start(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        output: Sequence[int],
        folder: Path | None = None,
        **more: Any,
    ) -> Process:
        """Start one with *arguments*; what it says goes to the files *output*, of which the last may be for both."""
        told, theirs = socket.socketpair()
        place = str(folder or Path.cwd())
        request = {"arguments": [*arguments], "environment": {**environment}, "folder": place, **more}
        files = [output[0], output[-1]]
        with theirs:
            socket.send_fds(self._asked, [json.dumps(request).encode()], [theirs.fileno(), *files])
        return Process(told)

    def end(self) -> None:
        """Have it end; what it has forked does not end with that."""
        self._asked.close()
        self._process.wait()


def _is_readable(process: Process) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(0))


# ── what follows runs in the process that forks ──────────────────────────────────────────────────────────────────────


def import_all(*others: str) -> None:
    """Import all of Toolspan, and *others*."""
    for module in walk_packages(import_module("toolspan").__path__, "toolspan."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)
    for name in others:
        import_module(name)
    _do_once()
    # Or each process, at its end, would go through all that was imported, and copy it.
    gc.collect()
    gc.freeze()


def _do_once() -> None:
    """Do what each process would do again at its start, and what is kept of it: nothing that it is told by then."""
    # The tests ask for forks as well, and need none of that.
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415

    from tests.support.scripts import all_scripts  # noqa: PLC0415
    from toolspan.settings import Settings  # noqa: PLC0415

    all_scripts()
    # Which packages are installed.
    Resource.create({})
    # Which of its fields are of which kind.
    Settings()


def fork_for_each(requests: socket.socket) -> dict[str, Any]:
    """Fork for each request and tell its exit code; returns in what was forked, with *more* of what was asked for.

    That is a process of its own by then, as if it had been started anew.
    """
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.data is not None:
                pid, told = key.data
                selector.unregister(key.fileobj)
                ended = os.waitid(os.P_PIDFD, key.fd, os.WEXITED | os.WNOWAIT)
                assert ended is not None
                _tell(told, ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
                os.waitpid(pid, 0)
                os.close(key.fd)
                told.close()
                continue
            message, passed, _, _ = socket.recv_fds(requests, _MOST_BYTES, _MOST_FILES)
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
                return _become(output=output, **json.loads(message))
            for fd in output:
                os.close(fd)
            told = socket.socket(fileno=told_fd)
            _tell(told, pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _tell(told: socket.socket, number: int) -> None:
    # Nobody listens any more to what a test left behind.
    with suppress(BrokenPipeError):
        told.sendall(f"{number}\n".encode())


def _become(
    *, arguments: list[str], environment: dict[str, str], folder: str, output: list[int], **more: Any
) -> dict[str, Any]:
    for fd, theirs in enumerate(output, start=1):
        os.dup2(theirs, fd)
        os.close(theirs)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = ["toolspan", *arguments]
    return more
