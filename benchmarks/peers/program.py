"""`python -m benchmarks.peers.program PEER work | fill COUNT | pace RATE SECONDS`, in the environment of that peer."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.pace import paced, tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

_AT_ONCE: Final = 100


async def _fill(calling: Callable[[], AbstractAsyncContextManager[Any]], count: int) -> None:
    async with calling() as caller:
        for _ in range(0, count, _AT_ONCE):
            await asyncio.gather(*(caller.send() for _ in range(_AT_ONCE)))


async def _pace(
    calling: Callable[[], AbstractAsyncContextManager[Any]], rate: float, seconds: float
) -> list[float | None]:
    async with calling() as caller:
        call: Callable[[], Awaitable[Any]] = caller.call
        return await paced(call, rate, seconds)


def main(name: str, what: str, *numbers: str) -> None:
    """Do *what* with the peer of that *name*."""
    peer = import_module(f"benchmarks.peers.programs.{name}")
    if what == "work":
        peer.work()
    elif what == "fill":
        uvloop.run(_fill(peer.calling, int(numbers[0])))
    else:
        tell(uvloop.run(_pace(peer.calling, *map(float, numbers))))


if __name__ == "__main__":
    main(*sys.argv[1:])
