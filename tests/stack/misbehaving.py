"""Tools that do what no tool should."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from toolspan import tool


@tool
async def block(whole: str) -> None:
    """Hold the loop of the worker until it has been put right, which a file says."""
    _sleep_until(whole)


@tool(delivery="at_most_once")
async def block_one(whole: str) -> None:
    """Hold the loop of one worker alone: whoever finds it silent does not run the call again."""
    _sleep_until(whole)


def _sleep_until(whole: str) -> None:
    while not Path(whole).exists():
        time.sleep(0.1)


@tool(timeout=1800)
async def hold(whole: str) -> str:
    """Hold a slot, and nothing else, until it has been put right, which a file says."""
    while not Path(whole).exists():  # noqa: ASYNC110, ASYNC240 - it comes from another process
        await asyncio.sleep(0.5)
    return whole


@tool
async def fragile(whole: str) -> str:
    """Take the worker down until it has been put right, which a file says."""
    if not Path(whole).exists():  # noqa: ASYNC240 - nobody waits for it
        os._exit(139)
    return whole
