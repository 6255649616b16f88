"""The end of a worker: it finishes what it holds, and gives back what does not end in time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from toolspan.periodic import ended
from toolspan.worker.processor import outcome_unknown

if TYPE_CHECKING:
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.completer import Completer
    from toolspan.worker.inflight import InFlight, Work

_GIVE_BACK_SECONDS: Final = 3.0
_STUBBORN_SECONDS: Final = 0.5


class Drain:
    """Finishes what is held until *over* is set, which is the drain's deadline; *me* is for whoever is told of it."""

    def __init__(self, inflight: InFlight, completer: Completer, probe: Probe, *, me: str, over: asyncio.Event) -> None:
        self._inflight = inflight
        self._completer = completer
        self._probe = probe
        self._me = me
        self._over = over

    async def finish(self) -> bool:
        """Finish what we hold, up to the deadline; then give the rest back. Tell whether all has its end."""
        began = time.monotonic()
        held = list(self._inflight)
        self._probe.drain_started(self._me, len(held))
        finished = asyncio.create_task(self._inflight.wait_until_gone(held), name="finish")
        await ended(*await left_once(self._over, finished))
        given_back: list[Work] = []
        undecided = [work for work in self._inflight if not work.decided]
        giving_back = asyncio.create_task(self._give_back(undecided, given_back), name="give back")
        # What is decided only waits for Redis to take it.
        decided = [work for work in self._inflight if work.decided]
        taken = asyncio.create_task(self._inflight.wait_until_gone(decided), name="taken")
        _, late = await asyncio.wait({giving_back, taken}, timeout=_GIVE_BACK_SECONDS)
        await ended(*late, *(work.task for work in decided if work.task is not None))
        left = [work for work in held if not work.ended and not work.lost]
        quarantined = [bool(work.token) for work in given_back if work.ended]
        self._probe.drain_finished(
            self._me,
            released=quarantined.count(False),
            quarantined=quarantined.count(True),
            left=len(left),
            seconds=time.monotonic() - began,
        )
        return not left

    async def _give_back(self, works: list[Work], given_back: list[Work]) -> None:
        for work in works:
            work.cancel()
        tasks = {work.task for work in works if work.task is not None}
        if tasks:
            # A tool that does not let itself be cancelled is left behind.
            await asyncio.wait(tasks, timeout=_STUBBORN_SECONDS)
        async with asyncio.TaskGroup() as group:
            for work in works:
                if not work.decided and not work.lost:
                    given_back.append(work)
                    group.create_task(self._give_one_back(work))
        await self._inflight.wait_until_gone(work for work in works if work.decided and not work.ended)

    async def _give_one_back(self, work: Work) -> None:
        if work.token:
            failure = outcome_unknown("its worker was stopped before it ended")
            await self._completer.quarantine(work, "outcome_unknown", failure)
        else:
            await self._completer.release(work, reason="drain", at_once=True)


async def left_once(over: asyncio.Event, *tasks: asyncio.Task[None]) -> set[asyncio.Task[None]]:
    """Wait until *tasks* have ended, at most until *over* is set, and give those that have not."""
    deadline = asyncio.create_task(over.wait(), name="deadline")
    left = set(tasks)
    while left and not deadline.done():
        await asyncio.wait({*left, deadline}, return_when=asyncio.FIRST_COMPLETED)
        left = {task for task in left if not task.done()}
    await ended(deadline)
    return left
