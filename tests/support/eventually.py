"""Waiting for facts, never for time."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


async def eventually(condition: Callable[[], Any], *, because: str, within: float = 15.0) -> Any:
    """Ask *condition* again and again until it is true, and give what it gave; *because* says what should be so."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"not within {within:g} s: {because}"
            raise AssertionError(message)
        await asyncio.sleep(0.01)
