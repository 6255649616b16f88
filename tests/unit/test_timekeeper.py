"""One timer for the limits of all runs."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from toolspan.model import Delivery, Run
from toolspan.worker.timekeeper import Timekeeper

if TYPE_CHECKING:
    from collections.abc import Coroutine


def _run() -> Run:
    return Run(Delivery("1-0", [], 1, "first", 0, 0, 0), tool_began_ns=time.monotonic_ns())


async def _limited(keeper: Timekeeper, run: Run, seconds: float, tool: Coroutine[Any, Any, Any]) -> Any:
    """Begin a tool that waits, and await the rest of it within a limit."""
    return await keeper.limited(run, seconds, tool, tool.send(None))


async def _held(keeper: Timekeeper, seconds: float) -> tuple[bool, float]:
    """Wait for ever within a limit; tell whether it ended us, and after how long."""
    began = time.monotonic()
    run = _run()
    with suppress(asyncio.CancelledError):
        await _limited(keeper, run, seconds, _for_ever())
    return run.expired, time.monotonic() - began


async def _for_ever() -> None:
    await asyncio.Event().wait()


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
    ended = _run()
    await _limited(keeper, ended, 0.01, asyncio.sleep(0))
    # The same grain of time, so that the timer rings for both.
    assert (await _held(keeper, 0.01))[0]

    assert not ended.expired


async def test_time_counts_from_the_beginning_and_not_from_the_first_wait() -> None:
    run = _run()
    run.tool_began_ns -= 60 * 1_000_000_000
    began = time.monotonic()
    with suppress(asyncio.CancelledError):
        await _limited(Timekeeper(), run, 60, _for_ever())

    assert run.expired
    assert time.monotonic() - began < 30


async def test_what_is_raised_inside_comes_out_and_what_is_thrown_in_arrives() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError

    async def gives_in() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "gave in"
        return ""

    keeper = Timekeeper()
    with pytest.raises(KeyError):
        await _limited(keeper, _run(), 60, fails())

    assert await _limited(keeper, _run(), 0.01, gives_in()) == "gave in"


async def test_nothing_is_kept_of_blocks_that_have_ended() -> None:
    keeper = Timekeeper()
    for seconds in range(1, 1000):
        await _limited(keeper, _run(), seconds, asyncio.sleep(0))

    assert keeper._limits == {}
