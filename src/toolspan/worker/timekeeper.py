"""Ends runs whose time is up: one timer for all, for a timer each costs more than a quick call altogether."""

from __future__ import annotations

import asyncio
from typing import Final

_GRAIN_SECONDS: Final = 0.01
"""So much later than asked for may a run be ended."""


class Timekeeper:
    """Cancels tasks at their limits, which are few at any time: never more than this worker holds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits: dict[int, set[Limit]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    def limit(self, seconds: float) -> Limit:
        """Give what limits a `with` block of the current task: once *seconds* are over, the task is cancelled.

        Whoever is in the block has to look whether the limit has *expired*, and to take the cancellation back.
        """
        task = asyncio.current_task(self._loop)
        if task is None:
            message = "only a task can be limited"
            raise RuntimeError(message)
        return Limit(self, task, int((self._loop.time() + seconds) / _GRAIN_SECONDS) + 1)

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
        self._timer = self._loop.call_at(due * _GRAIN_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time() / _GRAIN_SECONDS
        for due in [due for due in self._limits if due <= now]:
            for limit in self._limits.pop(due):
                limit.expire()
        if self._limits:
            self._arm(min(self._limits))


class Limit:
    """The end of a block of a task; *due* counts grains of the loop's clock."""

    __slots__ = ("_keeper", "due", "expired", "task")

    def __init__(self, keeper: Timekeeper, task: asyncio.Task[object], due: int) -> None:
        self.due = due
        self.expired = False
        self.task = task
        self._keeper = keeper

    def expire(self) -> None:
        """Cancel the block."""
        self.expired = True
        self.task.cancel()

    def __enter__(self) -> None:
        self._keeper.add(self)

    def __exit__(self, *_: object) -> None:
        if not self.expired:
            self._keeper.discard(self)
