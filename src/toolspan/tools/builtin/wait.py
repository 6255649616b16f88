"""Takes its time."""

import asyncio
from typing import Annotated

from pydantic import Field

from toolspan.tools.registry import tool


@tool
async def wait(seconds: Annotated[float, Field(ge=0, le=3600)]) -> float:
    """Wait for *seconds*, and give them back."""
    await asyncio.sleep(seconds)
    return seconds
