"""Gives back what it is given."""

from toolspan.tools.registry import tool


@tool
async def echo(text: str = "") -> str:
    """Give *text* back."""
    return text
