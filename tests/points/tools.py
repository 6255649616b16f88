"""Tools for workers that die, beside those of the toolbox; and a bug of the worker's own, for those named after it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import toolbox
from toolspan import tool
from toolspan.worker.executor import Executor

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from toolspan.model import Outcome, Run


@tool(name="until.sync")
def until_sync(path: str, release: str) -> None:
    """Mark the start and wait until a file is there, in a thread."""
    with Path(path).open("a") as file:
        file.write("\n")
    while not Path(release).exists():
        time.sleep(0.01)


@tool(name="until.late", timeout=0.1)
def until_late(path: str, release: str) -> None:
    """Do the same, and take longer than allowed."""
    until_sync(path, release)


@tool(name="stubborn.until")
async def stubborn_until(path: str, release: str) -> None:
    """Mark the start and wait until a file is there, whoever wants it to end."""
    waiting = asyncio.ensure_future(toolbox.until(path, release))
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            continue


@tool
async def ends_itself() -> None:
    """Cancel the task that it runs in."""
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


@tool
async def bug(on: int) -> str:
    """Meet a bug of the worker's own on attempt number *on*."""
    return f"not on attempt {on}"


@tool(name="bug.once", delivery="at_most_once")
async def bug_once(on: int) -> str:
    """Do the same, at most once."""
    return f"not on attempt {on}"


_theirs = Executor.begin


def _begin(self: Executor, run: Run, *rest: Any) -> Outcome | Coroutine[Any, Any, Outcome]:
    arguments = rest[-1]
    if run.call and run.call.tool.startswith("bug") and run.delivery.attempt == arguments["on"]:
        message = "on purpose"
        raise RuntimeError(message)
    return _theirs(self, run, *rest)


Executor.begin = _begin  # type: ignore[assignment]
