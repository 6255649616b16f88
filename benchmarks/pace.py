"""Calls at a steady rate, whatever becomes of those before; knows nothing but asyncio, so that everybody can use it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_WARM: Final = 20
_TIMES: Final = 3
"""So many calls at once come first, some times: the worker has started by then, and connections are open."""


async def paced(call: Callable[[], Awaitable[Any]], rate: float, seconds: float) -> list[float | None]:
    """Begin *rate* calls a second for *seconds*, and give how long each took, in seconds; None if it has failed."""
    for _ in range(_TIMES):
        # One that starts while calls come may make a mess of the first of them.
        await asyncio.gather(*(call() for _ in range(_WARM)), return_exceptions=True)
    took: list[float | None] = []

    async def one() -> None:
        began = time.perf_counter()
        try:
            await call()
        except Exception:  # noqa: BLE001 - of libraries of all kinds
            took.append(None)
        else:
            took.append(time.perf_counter() - began)

    loop, count = asyncio.get_running_loop(), int(rate * seconds)
    began = loop.time()
    async with asyncio.TaskGroup() as calls:
        for number in range(count):
            await asyncio.sleep(began + number / rate - loop.time())
            calls.create_task(one())
    return took


def tell(took: list[float | None]) -> None:
    """Write it down for whoever started us."""
    print(json.dumps(took))
