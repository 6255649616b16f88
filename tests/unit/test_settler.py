"""What waits to be settled goes together; the next batch is encoded while Redis has the one before."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.support.eventually import eventually
from toolspan.codec import NOTHING
from toolspan.keys import Keys
from toolspan.model import Delivery, Run, Succeeded, ToolCall
from toolspan.periodic import ended
from toolspan.store.steps import Settled, Settlement
from toolspan.telemetry.setup import make_probe
from toolspan.worker import settler
from toolspan.worker.inflight import Work
from toolspan.worker.persistence import Persistence
from toolspan.worker.settler import MAX_BATCH_BYTES, Settler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Redis:
    """Settles when it is let, and tells what was busy meanwhile."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.batches: list[tuple[int, list[Settlement]]] = []
        self.let_go: list[Work] = []
        self.busy = False
        self.adoptions = 0

    async def settle(self, batch: int, settlements: list[Settlement], *, held: int) -> list[Settled]:
        assert held == len(self)
        self.batches.append((batch, settlements))
        await self.go.wait()
        return [Settled.DONE] * len(settlements)

    def settled(self, *works: Work) -> None:
        self.let_go += works

    def __len__(self) -> int:
        return 7

    @property
    def sizes(self) -> list[int]:
        return [len(settlements) for _, settlements in self.batches]


@asynccontextmanager
async def settling(redis: Redis, *, concurrency: int = 200) -> AsyncIterator[tuple[Settler, list[Work]]]:
    """Give a settler, and every work that it has encoded, in this order."""
    encoded: list[Work] = []

    def encode(work: Work, now_ns: int) -> Settlement:
        encoded.append(work)
        work.run.settled_ns = now_ns
        return Settlement(work.entry_id, work.run.delivery.attempt, work.recorded, None, NOTHING, (), None)

    store: Any = redis
    probe = make_probe(keys=Keys(), consumer="test")
    made = Settler(
        store,
        probe,
        Persistence(store, probe),
        encode=encode,
        refused=lambda _, status: pytest.fail(f"{status}"),
        concurrency=concurrency,
    )
    made.inflight = store
    running = [asyncio.create_task(run) for run in made.runs()]
    yield made, encoded
    redis.go.set()
    await ended(*running)


def work(number: int, *, result: bytes = b"1") -> Work:
    run = Run(Delivery(f"{number}-0", [], 1, "first", 0, 0, 0), ToolCall(str(number), "echo", {}))
    run.outcome = Succeeded(result)
    run.settling_ns = time.monotonic_ns()
    return Work(run)


async def _some_turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_the_next_batch_is_encoded_while_one_is_on_its_way_and_sent_behind_it() -> None:
    redis = Redis()
    works = [work(number) for number in range(4)]
    async with settling(redis) as (made, encoded):
        made.submit(works[0])
        await eventually(lambda: redis.sizes == [1], because="one is on its way")
        made.submit(works[1])
        made.submit(works[2])
        await eventually(lambda: encoded == works[:3], because="the next are encoded")
        made.submit(works[3])
        await _some_turns()
        before, let_go = redis.sizes, list(redis.let_go)
        redis.go.set()
        await eventually(lambda: redis.let_go == works, because="all of them are settled")

    assert (before, let_go) == ([1], [])
    assert redis.sizes == [1, 2, 1]
    assert [number for number, _ in redis.batches] == [1, 2, 3]
    assert all(one.ended for one in works)


async def test_a_batch_is_told_of_while_redis_has_the_next_one() -> None:
    redis = Redis()
    sent: list[int] = []
    async with settling(redis) as (made, _):
        made._probe.settled = lambda *_, **__: sent.append(len(redis.batches))  # type: ignore[method-assign]
        made.submit(work(0))
        await eventually(lambda: redis.sizes == [1], because="one is on its way")
        made.submit(work(1))
        await _some_turns()
        redis.go.set()
        await eventually(lambda: len(sent) == 2, because="both are told of")

    assert sent == [2, 2]


async def test_a_bug_in_telling_of_a_batch_costs_what_is_told_of_it_and_nothing_else() -> None:
    redis = Redis()
    redis.go.set()

    def broken(*_: Any, **__: Any) -> None:
        message = "a bug"
        raise RuntimeError(message)

    with capture_logs() as lines:
        async with settling(redis) as (made, _):
            made._probe.settled = broken  # type: ignore[method-assign]
            for number in range(2):
                made.submit(work(number))
                await eventually(lambda: len(redis.let_go) == number + 1, because="it is settled")  # noqa: B023
            await _some_turns()

    assert [(line["event"], line["step"]) for line in lines] == [("toolspan.failed", "settle")] * 2


async def test_it_waits_for_what_is_about_to_come_but_not_for_more_than_a_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(settler, "_LONGEST_GATHERING_NS", 60_000_000_000)
    redis = Redis()
    redis.go.set()
    redis.busy = True
    async with settling(redis, concurrency=6) as (made, _):
        for number in range(2):
            made.submit(work(number))
        await _some_turns()
        waiting = redis.sizes
        for number in range(2, 8):
            made.submit(work(number))
        await eventually(lambda: len(redis.let_go) == 6, because="whole batches go")
        whole = redis.sizes
        redis.busy = False
        await eventually(lambda: len(redis.let_go) == 8, because="and the rest, once nothing more comes")

    assert (waiting, whole) == ([], [3, 3])
    assert redis.sizes == [3, 3, 2]


async def test_no_reply_waits_for_long_for_those_of_others() -> None:
    redis = Redis()
    redis.go.set()
    redis.busy = True
    async with settling(redis) as (made, _):
        made.submit(work(1))
        await eventually(lambda: len(redis.let_go) == 1, because="others take too long")


@pytest.mark.parametrize(("concurrency", "most"), [(1, 1), (100, 50), (200, 100), (1_000, 100)])
async def test_a_batch_is_half_of_what_is_held_and_never_more_than_a_script_shall_settle(
    concurrency: int, most: int
) -> None:
    redis = Redis()
    redis.go.set()
    async with settling(redis, concurrency=concurrency) as (made, _):
        for number in range(2 * most):
            made.submit(work(number))
        await eventually(lambda: len(redis.let_go) == 2 * most, because="all are settled")

    assert redis.sizes == [most, most]


async def test_a_batch_stops_growing_at_its_size() -> None:
    redis = Redis()
    redis.go.set()
    sizes = (0.4, 0.4, 0.4, 0.1, 3, 0.2)
    async with settling(redis) as (made, _):
        for number, size in enumerate(sizes):
            made.submit(work(number, result=b"1" * int(size * MAX_BATCH_BYTES)))
        await eventually(lambda: len(redis.let_go) == len(sizes), because="even the largest goes at some time")

    assert redis.sizes == [3, 2, 1]


@pytest.mark.parametrize("change", ["adopted", "old", None])
async def test_what_is_not_so_any_more_is_encoded_anew(monkeypatch: pytest.MonkeyPatch, change: str | None) -> None:
    """A group made anew has handed a call out again, or the phases are old."""
    monkeypatch.setattr(settler, "_FRESH_NS", 0 if change == "old" else 60_000_000_000)
    redis = Redis()
    first, second = work(1), work(2)
    async with settling(redis) as (made, encoded):
        made.submit(first)
        await eventually(lambda: redis.sizes == [1], because="one is on its way")
        times = encoded.count(first)
        made.submit(second)
        await eventually(lambda: second in encoded, because="the next is encoded")
        if change == "adopted":
            second.run.delivery.attempt = 2
            redis.adoptions += 1
        now_ns = time.monotonic_ns()
        redis.go.set()
        await eventually(lambda: redis.let_go == [first, second], because="both are settled")

    (_, [settlement]) = redis.batches[1]
    assert times == (2 if change == "old" else 1)
    assert encoded.count(second) == (1 if change is None else 2)
    assert settlement.attempt == (2 if change == "adopted" else 1)
    assert (second.run.settled_ns > now_ns) == (change is not None)
