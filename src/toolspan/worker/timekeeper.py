"""Ends runs whose time is up: one timer for all, for a timer each costs more than a quick call altogether."""

from __future__ import annotations

import asyncio
import operator
import time
import types
from typing import TYPE_CHECKING, Any, Final, TypeVar

from toolspan.worker.lanes import rest

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from toolspan.model import Run

T = TypeVar("T")

_GRAIN_SECONDS: Final = 0.01
"""So much later than asked for may a run be ended."""
_NS_PER_GRAIN: Final = int(_GRAIN_SECONDS * 1_000_000_000)


class Timekeeper:
    """Cancels tasks at their limits, which are few at any time: never more than this worker holds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits: dict[int, set[Limit]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    @types.coroutine
    def limited(self, run: Run, seconds: float, tool: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
        """Await the *tool* of *run*, which has begun and *waits_for* something; after *seconds*, its task is cancelled.

        Then *run* has `expired`, and the cancellation is to be taken back. Only what waits can be cancelled: nothing is
        kept of a tool before it does so for the first time, and most end before.
        """
        due = int((run.tool_began_ns + seconds * 1_000_000_000) / _NS_PER_GRAIN) + 1
        with Limit(self, run, asyncio.current_task(self._loop), due):
            return (yield from rest(operator.call, tool, waits_for))

    def add(self, limit: Limit) -> None:
        """Watch a limit."""
        due = limit.due
        same = self._limits.get(due)
        if same is not None:
            same.add(limit)
            return
        self._limits[due] = {limit}
        if self._timer is None or due < self._next:
            self._arm(due)

    def discard(self, limit: Limit) -> None:
        """Watch it no more."""
        same = self._limits.get(limit.due)
        if same is not None:
            same.discard(limit)
            if not same:
                del self._limits[limit.due]

    def _arm(self, due: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = due
        self._timer = self._loop.call_later(due * _GRAIN_SECONDS - time.monotonic(), self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = time.monotonic() / _GRAIN_SECONDS
        for due in [due for due in self._limits if due <= now]:
            for limit in self._limits.pop(due):
                limit.expire()
        if self._limits:
            self._arm(min(self._limits))


class Limit:
    """The end of a run's time; *due* counts grains of the monotonic clock."""

    __slots__ = ("_keeper", "_run", "_task", "due")

    def __init__(self, keeper: Timekeeper, run: Run, task: asyncio.Task[Any] | None, due: int) -> None:
        self.due = due
        self._run = run
        self._task = task
        self._keeper = keeper

    def expire(self) -> None:
        """Cancel the run."""
        self._run.expired = True
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        self._keeper.add(self)

    def __exit__(self, *_: object) -> None:
        if not self._run.expired:
            self._keeper.discard(self)
