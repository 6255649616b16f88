"""Adds two numbers."""

from toolspan.tools.registry import tool


@tool
async def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b
