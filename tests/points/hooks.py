"""What happens at a point: it is counted, and the process that is to end there ends."""

from __future__ import annotations

import builtins
import mmap
import os
import signal
from typing import TYPE_CHECKING, Any

from tests.points import code

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

MOST: int = 255
"""So many visits of a point are told apart."""


class Hooks:
    """Counts visits, apart for those at which the worker held no call and those at which it did.

    The counts lie in a file, so that they outlive the process. Nothing is counted before `begin`.
    """

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._visits: mmap.mmap | None = None
        self._end: tuple[int, int] = (-1, 0)

    def install(self) -> None:
        """Let the marked code find us."""
        setattr(builtins, code.PASSED, self._passed)
        setattr(builtins, code.WITHIN, lambda number, context: _Within(self._passed, number, context))
        setattr(builtins, code.EACH, self._each)

    def begin(self, visits: Path, end: tuple[int, int] | None) -> None:
        """Count from now on, into *visits*, and end at *end*: a place in there, and how many visits it takes."""
        with visits.open("r+b") as file:
            self._visits = mmap.mmap(file.fileno(), 0)
        self._end = end or (-1, 0)

    def _passed(self, number: int, value: Any = None) -> Any:
        if self._visits is not None:
            place = place_of(number, held=self._holds())
            count = self._visits[place] = min(self._visits[place] + 1, MOST)
            if (place, count) == self._end:
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

    async def __aexit__(self, *error: Any) -> bool | None:
        self._passed(self._number + 2)
        try:
            return await self._context.__aexit__(*error)
        finally:
            self._passed(self._number + 3)


def place_of(number: int, *, held: bool) -> int:
    """Say where the visits of a point are counted."""
    return 2 * number + held
