"""What the workers of a soak run. What somebody has to count leaves a line in a file of its process."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from toolspan import Retry, current_call, tool

_FOLDER = Path(os.environ["SOAK_FOLDER"])


def _note(kind: str, n: int) -> None:
    with (_FOLDER / f"{kind}-{os.getpid()}").open("a") as file:
        file.write(f"{n}\n")


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
    _note("once", n)
    await asyncio.sleep(n % 10 / 1000)
    return n


@tool
async def keyed(n: int) -> int:
    """Be called twice under one key."""
    await asyncio.sleep(n % 20 / 1000)
    return n


@tool
async def unheard(n: int) -> None:
    """Run for nobody who waits: only the files show it."""
    _note("unheard", n)


@tool
async def brief(n: int) -> int:
    """Take as long as its caller waits, more or less."""
    await asyncio.sleep(n % 20 / 100)
    return n


@tool
async def given_up(n: int) -> int:
    """Wait to be cancelled, longer than anybody should take to do so."""
    await asyncio.sleep(60)
    return n


@tool
async def tells(n: int) -> int:
    """Tell of three steps."""
    for step in range(3):
        await current_call().progress(step)
    return n


@tool(max_concurrency=10)
async def scarce(n: int) -> int:
    """Be run by ten at once in the whole fleet."""
    await asyncio.sleep(n % 5 / 1000)
    return n


@tool
async def elsewhere(n: int) -> int:
    """Come by another stream."""
    return n


@tool
async def killer(n: int) -> int:
    """Take its worker down, whichever that is."""
    os._exit(n % 100 + 1)
