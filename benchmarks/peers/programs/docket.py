"""docket (pydocket): a stream, results over pub/sub."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvloop
from docket import Docket, Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def echo(n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}


class Caller:
    """Adds tasks."""

    def __init__(self, docket: Docket) -> None:
        self._docket = docket

    async def send(self) -> Any:
        """Have one run."""
        return await self._docket.add(echo)(n=1)

    async def call(self) -> Any:
        """Have one run, and wait for its result."""
        return await (await self.send()).get_result()


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    """Connect."""
    async with _docket() as docket:
        yield Caller(docket)


def _docket() -> Docket:
    return Docket(url=os.environ["TOOLSPAN_REDIS_URL"])


async def _work() -> None:
    async with _docket() as docket:
        docket.register(echo)
        # Nearly our concurrency: with as many it runs out of the connections that it allows itself.
        async with Worker(docket, concurrency=80) as worker:
            await worker.run_forever()


def work() -> None:
    """Run the worker."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(_work())
