"""Watches an event loop from a thread that nothing on the loop can stop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Self

from toolspan.periodic import LONGEST_TICK, ended, ticks
from toolspan.standstill import Standstill

if TYPE_CHECKING:
    from types import TracebackType

    from toolspan.telemetry.probe import Probe


class LoopWatch:
    """While the block lasts, tells how late the loop is, and what blocks it once that is more than *longest* seconds.

    Whatever does keeps everybody waiting who has something on it.
    """

    def __init__(self, probe: Probe, *, longest: float) -> None:
        self._probe = probe
        self._longest = longest
        self._stalled = False
        self._standstill = Standstill(at_least=longest / 2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop watch", daemon=True)

    async def __aenter__(self) -> Self:
        self._loop_thread = threading.get_ident()
        self._ticked = time.monotonic()
        self._ticking = asyncio.create_task(self._tick(), name="loop")
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        await ended(self._ticking)
        await asyncio.to_thread(self._thread.join)

    async def _tick(self) -> None:
        async for lag in ticks(LONGEST_TICK):
            self._probe.loop_lagged(lag)
            # As the last thing before the next tick begins to be waited for: what is told is no longer than its lag.
            self._ticked = time.monotonic()

    def _run(self) -> None:
        self._standstill.begins()
        while not self._stop.wait(LONGEST_TICK):
            self._standstill.ends(after=LONGEST_TICK)
            self._look()
            self._standstill.begins()

    def _look(self) -> None:
        late = max(time.monotonic() - self._ticked - LONGEST_TICK, self._standstill.seconds)
        if late <= self._longest:
            self._stalled = False
        elif not self._stalled:
            self._stalled = True
            tell_stall(self._probe, self._standstill, seconds=late, loop_thread=self._loop_thread)


def tell_stall(probe: Probe, standstill: Standstill, *, seconds: float, loop_thread: int) -> None:
    """Tell that the event loop in *loop_thread* stands still, and what blocks it; or that all of the process did."""
    if standstill.seconds:
        probe.process_stood_still(seconds=standstill.seconds)
        return
    frame = sys._current_frames().get(loop_thread)  # noqa: SLF001
    probe.loop_stalled(seconds=seconds, stack="".join(traceback.format_stack(frame)) if frame else "")
