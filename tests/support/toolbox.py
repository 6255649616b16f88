"""Tools that do what tests need: each real start leaves a line in a file."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from toolspan import Retry, current_call, tool


def _mark(path: str) -> int:
    """Write one line for this run, and give how many there are."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()} {current_call().attempt}\n")
    return len(Path(path).read_text().splitlines())


@tool
async def echo(text: str = "") -> str:
    """Give *text* back."""
    return text


@tool
async def marked(path: str, seconds: float = 0) -> int:
    """Mark the start, wait, and give the number of starts so far."""
    count = _mark(path)
    await asyncio.sleep(seconds)
    return count


@tool
async def waits(seconds: float) -> None:
    """Wait, and nothing else."""
    await asyncio.sleep(seconds)


@tool(name="marked.sync")
def marked_sync(path: str, seconds: float = 0) -> int:
    """Do the same in a thread."""
    count = _mark(path)
    time.sleep(seconds)
    return count


@tool(name="once", delivery="at_most_once")
async def once(path: str, seconds: float = 0) -> int:
    """Do the same, at most once."""
    count = _mark(path)
    await asyncio.sleep(seconds)
    return count


@tool
async def until(path: str, release: str) -> int:
    """Mark the start and wait until a file is there."""
    count = _mark(path)
    while not Path(release).exists():  # noqa: ASYNC110, ASYNC240 - the test is another process
        await asyncio.sleep(0.01)
    return count


@tool(name="until.once", delivery="at_most_once")
async def until_once(path: str, release: str) -> int:
    """Do the same, at most once."""
    return await until(path, release)


@tool
async def asks_again(path: str, release: str) -> None:
    """Do the same, and then ask for another attempt."""
    await until(path, release)
    raise Retry(after=0.01)


@tool
async def fails(message: str = "it broke") -> None:
    """Raise."""
    raise RuntimeError(message)


@tool(retries=2, backoff=(0.01, 0.02))
async def flaky(path: str, good_from: int) -> int:
    """Raise until it was started often enough."""
    count = _mark(path)
    if count < good_from:
        message = "not yet"
        raise RuntimeError(message)
    return count


@tool
async def again(path: str, good_from: int) -> int:
    """Ask for another attempt until it was started often enough."""
    count = _mark(path)
    if count < good_from:
        raise Retry(after=0.01)
    return count


@tool
async def later(path: str, good_from: int) -> int:
    """Ask for another attempt in a second until it was started often enough."""
    count = _mark(path)
    if count < good_from:
        raise Retry(after=1)
    return count


@tool(timeout=0.2)
async def hangs() -> None:
    """Never end."""
    await asyncio.Event().wait()


@tool
async def dies(path: str, first: int = 99) -> str:
    """Take the worker down, the *first* times."""
    if _mark(path) <= first:
        os._exit(9)
    return "lived"


@tool
async def blocks(path: str, seconds: float) -> int:
    """Block the event loop, the first time."""
    count = _mark(path)
    if count == 1:
        time.sleep(seconds)  # noqa: ASYNC251
    return count


@tool
async def leaves() -> None:
    """Call sys.exit, as tools made from scripts do."""
    sys.exit(3)


@tool
async def strange(kind: str) -> Any:
    """Return what is not JSON, or too much of it."""
    nested: list[Any] = []
    for _ in range(64):
        nested = [nested]
    strange = {"nan": float("nan"), "object": object(), "deep": nested, "half": "\ud800", "digits": 10**5_000}
    return "x" * 400_000 if kind == "large" else strange[kind]


@tool
async def stubborn(path: str) -> None:
    """Not let itself be cancelled."""
    _mark(path)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@tool(name="stubborn.once", delivery="at_most_once")
async def stubborn_once(path: str) -> None:
    """Not let itself be cancelled, at most once."""
    await stubborn(path)


@tool
async def about() -> dict[str, Any]:
    """Tell of the call."""
    call = current_call()
    return {
        "id": call.id,
        "attempt": call.attempt,
        "remaining": call.remaining(),
        "principal": call.principal,
        "idempotency_key": call.idempotency_key,
    }


@tool(max_concurrency=2)
async def scarce(path: str, seconds: float = 0) -> int:
    """Mark the start, wait, and give the number of starts so far; two at once in the whole fleet."""
    return await marked(path, seconds)


@tool(name="scarce.until", max_concurrency=1)
async def scarce_until(path: str, release: str) -> int:
    """Mark the start and wait until a file is there; one at once."""
    return await until(path, release)


@tool(rate=5)
async def measured(path: str) -> int:
    """Mark the start, and give the number of starts so far; five a second in the whole fleet."""
    return await marked(path)


@tool
async def tells(path: str, steps: int, release: str = "") -> int:
    """Mark the start, tell of each step, and wait until a file is there if one is named."""
    _mark(path)
    for step in range(steps):
        await current_call().progress({"step": step})
    while release and not Path(release).exists():  # noqa: ASYNC110, ASYNC240 - the test is another process
        await asyncio.sleep(0.01)
    return steps


@tool(name="tells.sync")
def tells_sync(path: str, steps: int) -> int:
    """Do the same in a thread."""
    _mark(path)
    for step in range(steps):
        current_call().progress_sync({"step": step})
    return steps


@tool
async def tells_wrongly(kind: str) -> None:
    """Tell what is not JSON, too large, or nested too deep."""
    nested: list[Any] = []
    for _ in range(64):
        nested = [nested]
    await current_call().progress({"object": object(), "large": "x" * 400_000, "deep": nested}[kind])


@tool
async def swallows(path: str) -> str:
    """Wait to be cancelled, and return all the same."""
    _mark(path)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "nobody hears this"
    return ""


@tool(name="asks.sync")
def asks_sync(path: str, seen: str) -> None:
    """Mark the start, ask until it is cancelled, and leave a file then."""
    _mark(path)
    while not current_call().cancelled:
        time.sleep(0.01)
    Path(seen).touch()
