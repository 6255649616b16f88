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

FAILED: Final = 1
WRONG_USAGE: Final = 2
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_STEADY_SECONDS: Final = 60.0
"""A child that lasted so long starts again without having to wait."""


class Supervisor:
    """Keeps *processes* children of `toolspan` with *arguments* running until it is stopped.

    A child that ends with 0 was asked to go and is not replaced; one that was typed wrongly ends all.
    """

    def __init__(self, arguments: Sequence[str], processes: int) -> None:
        self._arguments = arguments
        self._processes = processes
        self._stopping = asyncio.Event()
        self._cut = asyncio.Event()

    def stop(self) -> None:
        """Have the children drain; a second call has them cut it short."""
        if self._stopping.is_set():
            self._cut.set()
        self._stopping.set()

    async def run(self) -> int:
        """Supervise until all children have ended, and give our exit code."""
        async with asyncio.TaskGroup() as group:
            children = [group.create_task(self._keep(), name=f"child-{number}") for number in range(self._processes)]
        return max(child.result() for child in children)

    async def _keep(self) -> int:
        wait = _FIRST_WAIT
        while True:
            began = time.monotonic()
            code = await self._run()
            stopping = self._stopping.is_set()
            # One that had not begun to listen when it was asked to go is ended by the signal itself.
            if code == 0 or (stopping and code == -signal.SIGTERM):
                return 0
            if stopping:
                return FAILED
            if code == WRONG_USAGE:
                self._stopping.set()
                return code
            if time.monotonic() - began > _STEADY_SECONDS:
                wait = _FIRST_WAIT
            try:
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            except TimeoutError:
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                return 0

    async def _run(self) -> int:
        """Run one child to its end, and pass on to it what we are told."""
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "toolspan",
            *self._arguments,
            preexec_fn=ends_with_us(signal.SIGTERM),
            start_new_session=True,
        )
        ended = asyncio.ensure_future(child.wait())
        for told in (self._stopping, self._cut):
            asked = asyncio.ensure_future(told.wait())
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if ended.done():
                break
            child.send_signal(signal.SIGTERM)
        return await ended
