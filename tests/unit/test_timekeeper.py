"""One timer for the limits of all runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from toolspan.worker.timekeeper import Timekeeper


async def _held(keeper: Timekeeper, seconds: float) -> tuple[bool, float]:
    """Wait for ever within a limit; tell whether it ended us, and after how long."""
    began = time.monotonic()
    limit = keeper.limit(seconds)
    with suppress(asyncio.CancelledError), limit:
        await asyncio.Event().wait()
    return limit.expired, time.monotonic() - began


async def test_a_block_ends_no_sooner_than_its_limit() -> None:
    expired, seconds = await _held(Timekeeper(), 0.05)

    assert expired
    assert seconds >= 0.05


async def test_a_shorter_limit_does_not_wait_for_a_longer_one() -> None:
    keeper = Timekeeper()
    order: list[float] = []

    async def hold(seconds: float) -> None:
        await _held(keeper, seconds)
        order.append(seconds)

    await asyncio.gather(*(hold(seconds) for seconds in (0.2, 0.01, 0.1, 0.01)))

    assert order == [0.01, 0.01, 0.1, 0.2]


async def test_a_block_that_ended_before_is_left_alone() -> None:
    keeper = Timekeeper()
    ended = keeper.limit(0.01)
    with ended:
        pass
    # The same grain of time, so that the timer rings for both.
    assert (await _held(keeper, 0.01))[0]

    assert not ended.expired


async def test_nothing_is_kept_of_blocks_that_have_ended() -> None:
    keeper = Timekeeper()
    for seconds in range(1, 1000):
        with keeper.limit(seconds):
            pass

    assert keeper._limits == {}


def test_only_a_task_can_be_limited() -> None:
    async def make() -> Timekeeper:
        return Timekeeper()

    loop = asyncio.new_event_loop()
    try:
        keeper = loop.run_until_complete(make())
        with pytest.raises(RuntimeError, match="only a task"):
            keeper.limit(1)
    finally:
        loop.close()
