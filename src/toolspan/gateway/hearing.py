"""Steps that hear a cancellation, whatever they await."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def hearing(step: Awaitable[T]) -> T:
    """Await *step*, which sends something to Redis.

    Before Python 3.12, a cancellation that meets a send is lost in `wait_for`; a timeout's, too.
    """
    task = asyncio.current_task()
    cancelled = task.cancelling() if task else 0
    try:
        return await step
    finally:
        if task and task.cancelling() > cancelled:
            raise asyncio.CancelledError
