"""A process that has everything loaded, with a call at each point, and forks worker processes as it is told."""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.points.code import Code
from tests.points.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, FrameType, ModuleType

_LOADED: Final = (
    *("toolspan.cli.main", "toolspan.cli.services", "toolspan.monitor.reporter", "toolspan.monitor.retention"),
    *("toolspan.worker.worker", "toolspan.worker.consumer", "toolspan.worker.pulse", "toolspan.health", "uvloop"),
    *("tests.support.toolbox", "tests.points.tools", "tests.points.program"),
)


class _Marked(SourceFileLoader):
    def __init__(self, module: str, path: str, code: Code) -> None:
        super().__init__(module, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._code.trees[fullname], self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, code: Code) -> None:
        self._code = code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self._code.trees:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Marked(fullname, spec.origin, self._code)
        return spec


class Nursery:
    """Forks a process for each line that comes in, and tells how each has ended."""

    def __init__(self, told: socket.socket, hooks: Hooks) -> None:
        self._told = told
        self._hooks = hooks
        self._alive: dict[int, int] = {}
        """Pid to number, of those whose end we have not heard of: nobody else has their pids."""

    def run(self) -> None:
        """Go on until the other side is closed."""
        from toolspan.offspring import ends_with_us  # noqa: PLC0415

        signal.signal(signal.SIGCHLD, self._bury)
        self._end_with_us = ends_with_us(signal.SIGKILL)
        with suppress(ConnectionError):
            for line in self._told.makefile("r"):
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
                self._heed(**json.loads(line))
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})

    def _heed(self, *, number: int, signal: int = 0, **life: Any) -> None:
        """Fork a process, or send the one with this number a signal, if it is still there."""
        if life:
            pid = os.fork()
            if pid == 0:
                self._live(**life)
            self._alive[pid] = number
        for pid, known in self._alive.items():
            if signal and known == number:
                os.kill(pid, signal)

    def _bury(self, _number: int, _frame: FrameType | None) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._say(self._alive.pop(pid), os.waitstatus_to_exitcode(status))

    def _say(self, number: int, code: int) -> None:
        self._told.sendall(f"{json.dumps([number, code])}\n".encode())

    def _live(
        self,
        *,
        program: str,
        arguments: Sequence[str],
        variables: dict[str, str],
        log: str,
        visits: str,
        ends: Sequence[int],
    ) -> None:
        """Be a process like one that was started anew; does not return."""
        code = 1
        try:
            if self._end_with_us:
                self._end_with_us()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            self._told.close()
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.environ.update(variables)
            sys.argv = ["toolspan", *arguments]
            self._hooks.begin(Path(visits), ends)
            module, _, function = program.partition(":")
            getattr(importlib.import_module(module), function)()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        except BaseException:  # noqa: BLE001
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def main() -> None:
    """Load everything, and fork for whoever is at the other end of the socket that we were started with."""
    sys.meta_path.insert(0, _Finder(Code()))
    held: list[Any] = []
    hooks = Hooks(lambda: any(map(len, held)))
    hooks.install()
    for module in _LOADED:
        importlib.import_module(module)
    from toolspan.worker.inflight import InFlight  # noqa: PLC0415

    theirs = InFlight.__init__

    def known(self: InFlight, *args: Any, **kwargs: Any) -> None:
        theirs(self, *args, **kwargs)
        held.append(self)

    InFlight.__init__ = known  # type: ignore[method-assign]
    gc.collect()
    gc.freeze()
    # Many at once, and not at the cost of whatever is beside us.
    os.nice(5)
    Nursery(socket.socket(fileno=int(sys.argv[1])), hooks).run()


if __name__ == "__main__":
    main()
