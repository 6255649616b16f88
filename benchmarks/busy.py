"""A tool that computes for a while, as tools of Python do: what a second process is for."""

from __future__ import annotations

from toolspan import tool

_ROUNDS = 30_000


@tool
async def compute() -> int:
    """Add up some numbers."""
    return sum(range(_ROUNDS))
