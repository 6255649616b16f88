"""Being stopped between two steps of many, never in the middle of one: what was done is known then, and told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def finished(step: Coroutine[Any, Any, T]) -> T:
    """Await the end of *step*, also if we are cancelled meanwhile; `heed_cancellation` then stops us after it."""
    task = asyncio.create_task(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        return task.result()


def heed_cancellation() -> None:
    """Stop here, if we were cancelled in a step that was finished all the same."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
