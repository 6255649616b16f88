"""Tools whose own libraries are instrumented, for workers of their own."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from opentelemetry import trace

from toolspan import tool

tracer = trace.get_tracer("library")


@tool
async def steps(path: str, release: str) -> str:
    """Record a step, mark the start, and wait until a file is there."""
    with tracer.start_as_current_span("step"):
        pass
    with Path(path).open("a") as file:  # noqa: ASYNC230
        file.write(f"{os.getpid()}\n")
    while not Path(release).exists():  # noqa: ASYNC110, ASYNC240 - the test is another process
        await asyncio.sleep(0.01)
    return "done"


@tool(delivery="at_most_once")
async def steps_once(path: str, release: str) -> str:
    """Do the same, at most once."""
    return await steps(path, release)


@tool
async def kills(path: str, release: str) -> None:
    """Record a step, mark the start, and take the worker down once that is exported."""
    del release
    with tracer.start_as_current_span("step"):
        pass
    with Path(path).open("a") as file:  # noqa: ASYNC230
        file.write(f"{os.getpid()}\n")
    await asyncio.sleep(0.5)
    os._exit(9)
