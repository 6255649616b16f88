"""A tool that does what no tool should: it blocks the loop of its worker."""

from __future__ import annotations

import time

from toolspan import tool


@tool
async def block(seconds: float) -> float:
    """Hold the loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the fault
    return seconds
