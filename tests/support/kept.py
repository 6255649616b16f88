"""Workers that are started again whenever they end, as an orchestrator would."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.processes import Workers
    from toolspan.settings import Settings


@asynccontextmanager
async def kept_running(workers: Workers, count: int, *arguments: str, settings: Settings) -> AsyncIterator[None]:
    """Keep *count* of them running until the block is left."""
    running = {n: workers.spawn(*arguments, name=f"w{n}", settings=settings) for n in range(count)}

    async def keep() -> None:
        while True:
            for number, worker in running.items():
                if not worker.alive:
                    running[number] = workers.spawn(*arguments, name=f"w{number}", settings=settings)
            await asyncio.sleep(0.01)

    keeping = asyncio.create_task(keep(), name="keep")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
