"""A program with its own `process_fn`, which leaves a line in a file for each call, or raises."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from toolspan import ToolExecConsumer
from toolspan.settings import Settings
from toolspan.store import Connection


def _note(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n")


async def _process(payload: dict[str, Any]) -> None:
    if payload["tool"] == "fails":
        message = "on purpose"
        raise RuntimeError(message)
    arguments = payload["args"]
    _note(Path(arguments["path"]))
    while not Path(arguments["release"]).exists():  # noqa: ASYNC110, ASYNC240 - the test is another process
        await asyncio.sleep(0.01)


async def _serve() -> None:
    settings = Settings.load()
    consumer = ToolExecConsumer(
        Connection.to(settings.redis_url).commands,
        "own",
        _process,
        autoclaim_interval=settings.lease_ms / 4_000,
        autoclaim_min_idle=settings.lease_ms,
    )
    starting = asyncio.create_task(consumer.start())
    stopped = asyncio.Event()

    def stop() -> None:
        starting.cancel()
        stopped.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    with suppress(asyncio.CancelledError):
        await starting
    await stopped.wait()
    await consumer.stop()


def main() -> None:
    """Serve until SIGTERM."""
    assert "TOOLSPAN_LEASE_MS" in os.environ
    asyncio.run(_serve())
