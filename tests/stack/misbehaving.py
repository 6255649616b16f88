"""Tools that do what no tool should."""

from __future__ import annotations

import os
import time
from pathlib import Path

from toolspan import tool


@tool
async def block(whole: str) -> str:
    """Hold the loop of the worker until it has been put right, which a file says."""
    while not Path(whole).exists():  # noqa: ASYNC240 - nobody waits for it
        time.sleep(0.1)  # noqa: ASYNC251 - that is the fault
    return whole


@tool
async def fragile(whole: str) -> str:
    """Take the worker down until it has been put right, which a file says."""
    if not Path(whole).exists():  # noqa: ASYNC240 - nobody waits for it
        os._exit(139)
    return whole
