"""The loop that every periodic role shares."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest

from toolspan.errors import StoreError
from toolspan.keys import Keys
from toolspan.periodic import ended, every, pause
from toolspan.testing import Recorder


class Rounds:
    """Sweeps so often, then ends the loop; the rounds *failing* are failed by Redis."""

    def __init__(self, count: int, *, failing: tuple[int, ...] = ()) -> None:
        self.until = asyncio.Event()
        self.done = 0
        self._count = count
        self._failing = failing

    async def sweep(self) -> None:
        self.done += 1
        if self.done == self._count:
            self.until.set()
        if self.done in self._failing:
            message = "away"
            raise StoreError(message)


async def test_the_first_round_is_at_once_and_the_last_one_ends_the_loop() -> None:
    rounds = Rounds(1)
    began = time.monotonic()
    await every(3_600, rounds.sweep, step="reap", until=rounds.until, probe=Recorder(Keys()).probe)

    assert rounds.done == 1
    assert time.monotonic() - began < 60


async def test_rounds_go_on_until_told_to_end() -> None:
    rounds = Rounds(5)
    await every(0.001, rounds.sweep, step="reap", until=rounds.until, probe=Recorder(Keys()).probe)

    assert rounds.done == 5


async def test_no_round_is_begun_when_it_is_over_already() -> None:
    rounds = Rounds(1)
    rounds.until.set()
    await every(0.001, rounds.sweep, step="reap", until=rounds.until, probe=Recorder(Keys()).probe)

    assert rounds.done == 0


async def test_rounds_that_redis_fails_are_one_outage_under_their_step() -> None:
    rounds = Rounds(5, failing=(2, 3))
    recorder = Recorder(Keys())
    await every(0.001, rounds.sweep, step="reap", until=rounds.until, probe=recorder.probe)

    assert rounds.done == 5
    assert [(name, about["toolspan.role"]) for name, about in recorder.events] == [
        ("toolspan.redis.down", "reap"),
        ("toolspan.redis.up", "reap"),
    ]
    assert recorder.total("toolspan.redis.errors", toolspan_role="reap") == 2


async def test_a_round_that_asked_nothing_does_not_end_an_outage() -> None:
    until, recorder = asyncio.Event(), Recorder(Keys())
    told: list[list[str]] = []

    async def sweep() -> bool:
        told.append([name for name, _ in recorder.events])
        if len(told) == 1:
            message = "away"
            raise StoreError(message)
        if len(told) == 4:
            until.set()
        return len(told) > 2

    await every(0.001, sweep, step="claim", until=until, probe=recorder.probe)

    down, up = "toolspan.redis.down", "toolspan.redis.up"
    assert told == [[], [down], [down], [down, up]]


async def test_a_bug_in_a_round_is_not_hidden() -> None:
    async def sweep() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        await every(0.001, sweep, step="reap", until=asyncio.Event(), probe=Recorder(Keys()).probe)


async def test_a_pause_is_over_when_it_is_told_so() -> None:
    until = asyncio.Event()
    asyncio.get_running_loop().call_soon(until.set)

    assert await pause(3_600, until=until) is True
    assert await pause(0.001, until=asyncio.Event()) is False


async def test_what_must_end_is_cancelled_until_it_has() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 3:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            swallowed += 1

    async def done_already() -> None: ...

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(done_already())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    await ended(*tasks)

    assert swallowed == 3
    assert all(task.done() for task in tasks)


async def test_the_next_round_comes_sooner_where_that_is_asked_for() -> None:
    rounds, sooner = Rounds(3), asyncio.Event()
    loop = asyncio.create_task(
        every(3_600, rounds.sweep, step="claim_due", until=rounds.until, probe=Recorder(Keys()).probe, sooner=sooner)
    )
    for done in (1, 2):
        while rounds.done < done:  # noqa: ASYNC110 - the loop's own steps are waited for
            await asyncio.sleep(0)
        sooner.set()
    await asyncio.wait_for(loop, 10)

    assert rounds.done == 3


async def test_what_ends_the_loop_ends_it_also_while_it_waits_for_that() -> None:
    rounds = Rounds(2)
    loop = asyncio.create_task(
        every(
            3_600,
            rounds.sweep,
            step="claim_due",
            until=rounds.until,
            probe=Recorder(Keys()).probe,
            sooner=asyncio.Event(),
        )
    )
    while not rounds.done:  # noqa: ASYNC110 - the loop's own steps are waited for
        await asyncio.sleep(0)
    rounds.until.set()
    await asyncio.wait_for(loop, 10)

    assert rounds.done == 1
