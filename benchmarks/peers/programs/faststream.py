"""FastStream: a stream with a group; replies over pub/sub."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import uvloop
from faststream import FastStream
from faststream.redis import RedisBroker, StreamSub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

broker = RedisBroker(os.environ["TOOLSPAN_REDIS_URL"], logger=None)
STREAM: Final = "calls"
AT_ONCE: Final = 100


@broker.subscriber(
    stream=StreamSub(STREAM, group="workers", consumer="worker", max_records=AT_ONCE, last_id=">"), max_workers=100
)
async def echo(message: dict[str, int]) -> dict[str, int]:
    """Give back what came in."""
    return message


class Caller:
    """Publishes messages."""

    async def send(self) -> Any:
        """Have one run, and its result published."""
        return await broker.publish({"n": 1}, stream=STREAM, reply_to="replies")

    async def call(self) -> Any:
        """Have one run, and wait for its result."""
        return await broker.request({"n": 1}, stream=STREAM)


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    """Connect."""
    await broker.connect()
    yield Caller()
    await broker.stop()


def work() -> None:
    """Run the worker."""
    uvloop.run(FastStream(broker).run())
