"""Collects what many tasks want to write, and sends it in one go."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batcher(Generic[Item, Answer]):
    """Sends what is submitted, and gives each its answer; while one batch is on its way, the next one gathers.

    A batch has at most *most* items, and stops growing when their sizes add up to *most_bytes*.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Answer]]],
        *,
        most: int,
        most_bytes: int,
        size: Callable[[Item], int],
    ) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._wake = asyncio.Event()

    def submit(self, item: Item) -> asyncio.Future[Answer]:
        """Have *item* sent with the next batch, and give what will be its answer."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._waiting.append((item, answer))
        self._wake.set()
        return answer

    async def run(self) -> None:
        """Send batches until cancelled. *send* must not fail: an item that it loses would wait for ever."""
        while True:
            await self._wake.wait()
            asked = take(
                self._waiting, most=self._most, most_bytes=self._most_bytes, size=lambda one: self._size(one[0])
            )
            if not self._waiting:
                self._wake.clear()
            answers = await self._send([item for item, _ in asked])
            for (_, future), answer in zip(asked, answers, strict=True):
                # Whoever was cancelled does not wait any more.
                if not future.done():
                    future.set_result(answer)


def take(waiting: list[Item], *, most: int, most_bytes: int, size: Callable[[Item], int]) -> list[Item]:
    """Take a batch away from what is *waiting*: at most *most*, and no more once their sizes add up to *most_bytes*."""
    batch = waiting[:most]
    room = most_bytes
    for count, item in enumerate(batch, start=1):
        room -= size(item)
        if room <= 0:
            batch = batch[:count]
            break
    del waiting[: len(batch)]
    return batch
