"""SAQ: lists and sorted sets, results over pub/sub."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvloop
from saq import Queue, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def echo(_: Any, *, n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}


class Caller:
    """Enqueues jobs."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    async def send(self) -> Any:
        """Have one run."""
        return await self._queue.enqueue("echo", n=1)

    async def call(self) -> Any:
        """Have one run, and wait for its result."""
        return await self._queue.apply("echo", n=1)


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    """Connect."""
    queue = _queue()
    await queue.connect()
    yield Caller(queue)
    await queue.disconnect()


def _queue() -> Queue:
    return Queue.from_url(os.environ["TOOLSPAN_REDIS_URL"])


async def _work() -> None:
    queue = _queue()
    await queue.connect()
    # Our concurrency, for the rest as its command does.
    await Worker(queue, functions=[echo], concurrency=100).start()


def work() -> None:
    """Run the worker."""
    uvloop.run(_work())
