"""What the workers of a soak run. What must not run twice leaves a line in the file of its process."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from toolspan import Retry, current_call, tool

_FOLDER = Path(os.environ["SOAK_FOLDER"])


@tool
async def echo(n: int) -> int:
    """Give *n* back."""
    return n


@tool
async def slow(n: int) -> int:
    """Take some milliseconds."""
    await asyncio.sleep(n % 20 / 1000)
    return n


@tool
def threaded(n: int) -> int:
    """Take a thread for some milliseconds."""
    time.sleep(n % 5 / 1000)
    return n


@tool
async def fails(n: int) -> int:
    """Raise."""
    message = f"{n} is not to my taste"
    raise ValueError(message)


@tool
async def retried(n: int) -> int:
    """Ask for a second attempt."""
    if current_call().attempt == 1:
        raise Retry(after=0.05)
    return n


@tool(delivery="at_most_once")
async def once(n: int) -> int:
    """Run at most once, as the files show."""
    with (_FOLDER / f"once-{os.getpid()}").open("a") as file:
        file.write(f"{n}\n")
    await asyncio.sleep(n % 10 / 1000)
    return n


@tool
async def killer(n: int) -> int:
    """Take its worker down, whichever that is."""
    os._exit(n % 100 + 1)
