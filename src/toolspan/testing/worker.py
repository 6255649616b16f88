"""A worker inside the test's own process."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from toolspan.settings import Settings
from toolspan.store import Connection
from toolspan.telemetry.logs import leave_stdout_alone
from toolspan.testing.recorder import Recorder
from toolspan.tools.registry import Registry
from toolspan.worker.engine import consumer_name
from toolspan.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from toolspan.telemetry.probe import Probe


@asynccontextmanager
async def running_worker(
    *tools: Callable[..., Any] | Registry, settings: Settings, probe: Probe | None = None, name: str = "test"
) -> AsyncIterator[Worker]:
    """Serve *tools*, functions declared with `@tool` and whole registries, until the block is left; then drain.

    Without a *probe* the worker reports to a recorder of its own, which nobody looks at.
    """
    leave_stdout_alone()
    registry = Registry.joined(one if isinstance(one, Registry) else Registry.of(one) for one in tools)
    connection = Connection.to(settings.redis_url)
    me = consumer_name(name)
    worker = Worker(connection, registry, settings, probe or Recorder(settings.keys, consumer=me).probe, me=me)
    running = asyncio.create_task(worker.run())
    ready = asyncio.create_task(worker.ready.wait())
    try:
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield worker
    finally:
        ready.cancel()
        worker.stop()
        await asyncio.wait({running})
        await connection.aclose()
    running.result()
