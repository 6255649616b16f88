"""taskiq with taskiq-redis: a stream with a group, results in keys that are polled."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_URL: Final = os.environ["TOOLSPAN_REDIS_URL"]
broker = RedisStreamBroker(_URL, queue_name="calls").with_result_backend(
    RedisAsyncResultBackend(_URL, result_ex_time=600)
)


@broker.task
async def echo(n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}


class Caller:
    """Kicks tasks."""

    async def send(self) -> Any:
        """Have one run."""
        return await echo.kiq(1)

    async def call(self) -> Any:
        """Have one run, and wait for its result."""
        return await (await self.send()).wait_result()


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    """Connect."""
    await broker.startup()
    yield Caller()
    await broker.shutdown()


def work() -> None:
    """Run its own command: it wants processes of its own."""
    arguments = ["worker", "--workers", "1", "--log-level", "ERROR", f"{__name__}:broker"]
    os.execv(sys.executable, [sys.executable, "-m", "taskiq", *arguments])  # noqa: S606
