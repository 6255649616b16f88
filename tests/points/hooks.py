"""What happens at a point: it is counted, and the process that is to end there ends."""

from __future__ import annotations

import builtins
import mmap
import os
import signal
from typing import TYPE_CHECKING, Any, Final

from tests.points import code

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path
    from types import TracebackType

_MOST: Final = 255


class Hooks:
    """Notes visits, apart for those at which the worker held no call and those at which it did.

    That lies in a file, so that it outlives the process: a byte for each place. Nothing is noted before `begin`.
    """

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._visits: mmap.mmap | None = None
        self._ends: frozenset[int] = frozenset()

    def calls(self) -> dict[str, Callable[..., Any]]:
        """Give what marked code calls, by the names under which it does."""
        return {
            code.PASSED: self._passed,
            code.WITHIN: lambda number, context: _Within(self._passed, number, context),
            code.EACH: self._each,
        }

    def install(self) -> None:
        """Let all code find them."""
        vars(builtins).update(self.calls())

    def begin(self, visits: Path, ends: Iterable[int]) -> None:
        """Note from now on, in *visits*, and end at the first of the places *ends* that is visited."""
        with visits.open("r+b") as file:
            self._visits = mmap.mmap(file.fileno(), 0)
        self._ends = frozenset(ends)

    def _passed(self, number: int, value: Any = None) -> Any:
        if self._visits is not None:
            place = place_of(number, held=self._holds())
            self._visits[place] = min(self._visits[place] + 1, _MOST)
            if place in self._ends:
                os.kill(os.getpid(), signal.SIGKILL)
        return value

    async def _each(self, number: int, items: AsyncIterable[Any]) -> AsyncIterator[Any]:
        iterator = aiter(items)
        while True:
            self._passed(number)
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                return
            self._passed(number + 1)
            yield item


class _Within:
    """An `async with`, its four points included."""

    def __init__(
        self, passed: Callable[[int], None], number: int, context: AbstractAsyncContextManager[Any, bool | None]
    ) -> None:
        self._passed = passed
        self._number = number
        self._context = context

    async def __aenter__(self) -> Any:
        self._passed(self._number)
        value = await self._context.__aenter__()
        self._passed(self._number + 1)
        return value

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._passed(self._number + 2)
        try:
            return await self._context.__aexit__(kind, error, trace)
        finally:
            self._passed(self._number + 3)


def place_of(number: int, *, held: bool) -> int:
    """Say where the visits of a point are counted."""
    return 2 * number + held
