"""streaQ: a stream, results over pub/sub."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from streaq import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# Our concurrency, for the rest as it comes; it finds uvloop by itself.
worker: Worker[None] = Worker(
    redis_url=os.environ["TOOLSPAN_REDIS_URL"], concurrency=100, anyio_kwargs={"use_uvloop": True}
)


@worker.task
async def echo(n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}


class Caller:
    """Enqueues tasks."""

    async def send(self) -> Any:
        """Have one run."""
        return await echo.enqueue(1)

    async def call(self) -> Any:
        """Have one run, and wait for its result."""
        return await (await self.send()).result(timeout=30)


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    """Connect."""
    async with worker:
        yield Caller()


def work() -> None:
    """Run the worker."""
    worker.run_sync()
