"""Whether a client is still there to hear the answer."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancel the block when the client hangs up. The body must have been read.

    Raises:
        ClientDisconnect: if it did.
    """
    waiting = asyncio.current_task()
    watching = asyncio.create_task(_hung_up(receive), name="presence")

    def leave(watched: asyncio.Task[None]) -> None:
        if waiting is not None and not watched.cancelled():
            waiting.cancel()

    watching.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if waiting is None or not watching.done() or waiting.uncancel() > 0:
            raise
        raise ClientDisconnect from None
    finally:
        watching.remove_done_callback(leave)
        watching.cancel()


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
