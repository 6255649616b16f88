"""Several worker processes under one parent, which starts again those that fail."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Sequence

WRONG_USAGE: Final = 2
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_STEADY_SECONDS: Final = 60.0
"""A child that lasted so long starts again without having to wait."""


async def supervise(arguments: Sequence[str], processes: int, *, until: asyncio.Event) -> int:
    """Keep *processes* children of `toolspan` with *arguments* running until *until* is set; give our exit code.

    A child that ends with 0 was asked to go and is not replaced; one that was typed wrongly ends all.
    """
    async with asyncio.TaskGroup() as group:
        children = [
            group.create_task(_keep(arguments, until=until), name=f"child-{number}") for number in range(processes)
        ]
    return max(child.result() for child in children)


async def _keep(arguments: Sequence[str], *, until: asyncio.Event) -> int:
    wait = _FIRST_WAIT
    while True:
        began = time.monotonic()
        code = await _run(arguments, until=until)
        if until.is_set() or code == 0:
            return min(code, 1) if code >= 0 else 1
        if code == WRONG_USAGE:
            until.set()
            return code
        if time.monotonic() - began > _STEADY_SECONDS:
            wait = _FIRST_WAIT
        try:
            async with asyncio.timeout(wait):
                await until.wait()
        except TimeoutError:
            wait = min(wait * 2, _LONGEST_WAIT)
        else:
            return 0


async def _run(arguments: Sequence[str], *, until: asyncio.Event) -> int:
    """Run one child to its end; once *until* is set it is asked to drain."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "toolspan",
        *arguments,
        preexec_fn=ends_with_us(signal.SIGTERM),
        start_new_session=True,
    )
    ended = asyncio.ensure_future(child.wait())
    stopped = asyncio.ensure_future(until.wait())
    await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        child.send_signal(signal.SIGTERM)
    stopped.cancel()
    return await ended
