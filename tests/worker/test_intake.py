"""The one door through which calls come in: whoever takes orphans or due calls does not wait for new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings

SECONDS_OF_READS = 20


async def test_due_calls_are_taken_in_many_turns_while_nothing_new_comes(plane: Plane, settings: Settings) -> None:
    """On a stream without new calls a read lasts as long as a block; one between each two turns would be too many."""
    settings = settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 120_000, "concurrency": 2})
    calls = settings.concurrency * SECONDS_OF_READS * 2
    for number in range(calls):
        await plane.append("echo", str(number))
    for entry_id in await plane.orphan("~parked"):
        await plane.redis.zadd(plane.keys.parked, {entry_id: 1})

    async with running_worker(echo, settings=settings):
        await eventually(lambda: _answered(plane, calls), because="the due calls are taken")


async def _answered(plane: Plane, calls: int) -> bool:
    return int(await plane.redis.xlen(plane.reply_to)) == calls
