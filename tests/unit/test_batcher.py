"""The batcher: what waits goes together, up to a number and a size, and each item gets its own answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from toolspan.periodic import ended
from toolspan.worker.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Sender:
    """Sends batches when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = asyncio.Event()

    async def send(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        await self.go.wait()
        return [2 * item for item in items]

    async def has_sent(self, count: int) -> None:
        await eventually(lambda: sum(map(len, self.batches)) == count, because="everything goes at some time")


@asynccontextmanager
async def batching(sender: Sender, *, most: int = 100, most_bytes: int = 1_000) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(sender.send, most=most, most_bytes=most_bytes, size=lambda item: item)
    running = asyncio.create_task(batcher.run())
    yield batcher
    await ended(running)


async def test_what_comes_while_a_batch_is_on_its_way_goes_with_the_next() -> None:
    sender = Sender()
    async with batching(sender) as batcher:
        batcher.submit(1)
        await sender.has_sent(1)
        for item in (2, 3, 4):
            batcher.submit(item)
        sender.go.set()
        await sender.has_sent(4)

    assert sender.batches == [[1], [2, 3, 4]]


async def test_a_batch_has_no_more_items_than_allowed() -> None:
    sender = Sender()
    sender.go.set()
    async with batching(sender, most=3) as batcher:
        for _ in range(7):
            batcher.submit(1)
        await sender.has_sent(7)

    assert [len(batch) for batch in sender.batches] == [3, 3, 1]


async def test_a_batch_stops_growing_at_its_size() -> None:
    sender = Sender()
    sender.go.set()
    async with batching(sender, most_bytes=10) as batcher:
        for item in (4, 4, 4, 1, 30, 2):
            batcher.submit(item)
        await sender.has_sent(6)

    # The one that reaches it still goes along: even the largest has to go at some time.
    assert sender.batches == [[4, 4, 4], [1, 30], [2]]


async def test_each_item_gets_its_own_answer() -> None:
    sender = Sender()
    sender.go.set()
    async with batching(sender) as batcher:
        answers = await asyncio.gather(*(batcher.submit(item) for item in range(50)))

    assert answers == [item * 2 for item in range(50)]


async def test_whoever_does_not_wait_any_more_holds_up_nobody() -> None:
    sender = Sender()
    async with batching(sender) as batcher:
        first, second = batcher.submit(1), batcher.submit(2)
        first.cancel()
        sender.go.set()

        assert await second == 4
        assert await batcher.submit(3) == 6
