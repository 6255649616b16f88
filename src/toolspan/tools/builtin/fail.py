"""Fails."""

from toolspan.tools.registry import tool


@tool
async def fail(message: str = "this tool always fails") -> None:
    """Fail with *message*."""
    raise RuntimeError(message)
