"""arq: a sorted set that is polled, results in keys that are polled."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import uvloop
from arq import create_pool, run_worker
from arq.connections import ArqRedis, RedisSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def echo(_: Any, n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}


class WorkerSettings:
    """As its documentation has it, with our concurrency."""

    functions = (echo,)
    redis_settings = RedisSettings.from_dsn(os.environ["TOOLSPAN_REDIS_URL"])
    max_jobs = 100


class Caller:
    """Sends jobs."""

    def __init__(self, pool: ArqRedis) -> None:
        self._pool = pool

    async def send(self) -> Any:
        """Have one run."""
        return await self._pool.enqueue_job("echo", 1)

    async def call(self) -> Any:
        """Have one run, and wait for its result."""
        return await (await self.send()).result()


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    """Connect."""
    pool = await create_pool(WorkerSettings.redis_settings)
    yield Caller(pool)
    await pool.aclose()


def work() -> None:
    """Run the worker."""
    uvloop.install()
    run_worker(WorkerSettings)
