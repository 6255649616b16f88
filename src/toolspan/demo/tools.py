"""What the demo's workers serve: quick, slow, failing and deadly."""

from __future__ import annotations

import asyncio
import os
import random

from toolspan import tool


@tool
async def search(query: str, limit: int = 3) -> list[str]:
    """Find pages."""
    await asyncio.sleep(random.uniform(0.02, 0.08))  # noqa: S311
    return [f"{query} {number}" for number in range(1, limit + 1)]


@tool
async def summarise(text: str) -> str:
    """Take a while."""
    await asyncio.sleep(random.uniform(1.5, 2.5))  # noqa: S311
    return f"{text[:20]} …"


@tool
async def translate(text: str) -> str:
    """Fail."""
    message = f"no dictionary for {text!r}"
    raise LookupError(message)


@tool
async def render(page: str) -> str:
    """Take the worker down, as a fault in native code would."""
    os._exit(139 if page else 134)
