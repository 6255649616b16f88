"""The tool whose calls are drained: what it costs is what the worker costs."""

from __future__ import annotations

from toolspan import tool


@tool
async def echo(n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}
