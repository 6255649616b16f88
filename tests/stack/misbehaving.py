"""Tools that do what no tool should."""

from __future__ import annotations

import os
import time
from pathlib import Path

from toolspan import tool


@tool
async def block(seconds: float) -> float:
    """Hold the loop of the worker."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is the fault
    return seconds


@tool
async def fragile(whole: str) -> str:
    """Take the worker down until it has been put right, which a file says."""
    if not Path(whole).exists():  # noqa: ASYNC240 - nobody waits for it
        os._exit(139)
    return whole
