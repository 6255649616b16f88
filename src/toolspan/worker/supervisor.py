"""Several worker processes under one parent, which starts again those that fail."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from toolspan.health import Unready
from toolspan.offspring import ends_with_us
from toolspan.telemetry.events import child_ended
from toolspan.worker.pulse import Hearing

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED: Final = 1
WRONG_USAGE: Final = 2
NO_REDIS: Final = 3
_WITHOUT_REDIS: Final = ("--redis-was-away",)
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
        self._children: dict[int, Hearing | None] = dict.fromkeys(range(1, processes + 1))
        """Those that shall run, and what those that do tell of themselves."""
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
            children = [group.create_task(self._keep(number), name=f"child-{number}") for number in self._children]
        return max(child.result() for child in children)

    def unready(self) -> Unready | None:
        """Say why nothing should be sent to us now; None if all is well with every child. For any thread."""
        children = list(self._children.items())
        if self._stopping.is_set() or not children:
            return Unready("draining", "these workers take nothing more, and finish what they hold", retryable=False)
        problems = [
            (number, child and child.pid, unready)
            for number, child in children
            if (unready := _unready(child)) is not None
        ]
        if not problems:
            return None
        number, _, first = problems[0]
        message = (
            f"{len(problems)} of {len(children)} worker processes {'is' if len(problems) == 1 else 'are'} not ready; "
            f"process {number}: {first.message}"
        )
        detail = [{"process": number, "pid": pid, "error": asdict(unready)} for number, pid, unready in problems]
        return Unready("processes_unready", message, detail=detail)

    async def _keep(self, number: int) -> int:
        wait = _FIRST_WAIT
        code = 0
        while True:
            began = time.monotonic()
            pid, code = await self._run(number, silent=_WITHOUT_REDIS if code == NO_REDIS else ())
            lasted = time.monotonic() - began
            stopping = self._stopping.is_set()
            # One that had not begun to listen when it was asked to go is ended by the signal itself.
            if code == 0 or (stopping and code == -signal.SIGTERM):
                del self._children[number]
                return 0
            if code == WRONG_USAGE and not stopping:
                # It has said what was wrong itself.
                self._stopping.set()
                return code
            if stopping:
                if code != WRONG_USAGE:
                    child_ended(number, pid, how=_how(code), seconds=lasted, again_in=None)
                return FAILED
            if lasted > _STEADY_SECONDS:
                wait = _FIRST_WAIT
            child_ended(number, pid, how=_how(code), seconds=lasted, again_in=wait)
            try:
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            except TimeoutError:
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                return 0

    async def _run(self, number: int, *, silent: Sequence[str]) -> tuple[int, int]:
        """Run one child to its end, and hear meanwhile what it tells of itself; give its pid and its exit code."""
        with Hearing() as hearing:
            self._children[number] = hearing
            try:
                child = await self._started(hearing, silent)
                return child.pid, await self._attend(child)
            finally:
                self._children[number] = None

    async def _started(self, hearing: Hearing, silent: Sequence[str]) -> asyncio.subprocess.Process:
        try:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "toolspan",
                *self._arguments,
                *silent,
                "--health-pipe",
                str(hearing.pipe),
                pass_fds=(hearing.pipe,),
                preexec_fn=ends_with_us(signal.SIGTERM),
                start_new_session=True,
            )
        finally:
            os.close(hearing.pipe)
        hearing.pid = child.pid
        return child

    async def _attend(self, child: asyncio.subprocess.Process) -> int:
        """Wait for the end of *child*, and pass on to it what we are told."""
        ended = asyncio.ensure_future(child.wait())
        for told in (self._stopping, self._cut):
            asked = asyncio.ensure_future(told.wait())
            await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if ended.done():
                break
            child.send_signal(signal.SIGTERM)
        return await ended


def _how(code: int) -> str:
    """Say how a child has ended, by its exit code or the signal that ended it."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _unready(child: Hearing | None) -> Unready | None:
    return Unready("not_running", "it is not running, and will be started") if child is None else child.unready()
