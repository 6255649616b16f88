"""A process that has everything loaded, with a call at each point of one part, and forks others as it is told."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.points.code import Code
from tests.points.hooks import Hooks
from tests.support.forks import fork_for_each, import_all

if TYPE_CHECKING:
    from collections.abc import Sequence, Sized
    from types import CodeType, ModuleType

_TESTS: Final = ("tests.support.toolbox", "tests.points.tools", "tests.points.program", "tests.points.caller")


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


def _install(part: str) -> Hooks:
    """Have all code loaded, with a call at each point of this part."""
    sys.meta_path.insert(0, _Finder(Code(part)))
    held: list[Sized] = []
    hooks = Hooks(lambda: any(map(len, held)))
    hooks.install()
    import_all("uvloop", *_TESTS)
    from toolspan.gateway.replies import Replies  # noqa: PLC0415
    from toolspan.worker.inflight import InFlight  # noqa: PLC0415

    _know(InFlight, held)
    _know(Replies, held)
    gc.freeze()
    return hooks


def _know(kind: type[Any], made: list[Sized]) -> None:
    """Add to *made* whatever is made of this kind."""
    theirs = kind.__init__

    def known(self: Any, *args: Any, **kwargs: Any) -> None:
        theirs(self, *args, **kwargs)
        made.append(self)

    kind.__init__ = known


def main() -> None:
    """Load everything, and fork for whoever is at the other end of the socket that we were started with."""
    part, asked = sys.argv[1:]
    hooks = _install(part)
    from toolspan.offspring import ends_with_us  # noqa: PLC0415

    # Many at once, and not at the cost of whatever is beside us.
    os.nice(5)
    end_with_us = ends_with_us(signal.SIGKILL)
    life = fork_for_each(socket.socket(fileno=int(asked)))
    if end_with_us:
        end_with_us()
    _live(hooks, **life)


def _live(hooks: Hooks, *, program: str, visits: str, ends: Sequence[int]) -> None:
    """Be a process like one that was started anew; does not return."""
    code = 1
    try:
        hooks.begin(Path(visits), ends)
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


if __name__ == "__main__":
    main()
