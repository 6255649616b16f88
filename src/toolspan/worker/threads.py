"""Daemon threads for `def` tools: nothing waits for one that does not come back."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Threads:
    """At most *limit* threads, made when needed.

    One whose caller gave up is abandoned: it keeps its place until it ends.
    """

    def __init__(self, limit: int) -> None:
        self.abandoned = 0
        self._places = asyncio.Semaphore(limit)
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._idle = 0

    async def admit(self) -> None:
        """Wait for a place; the end of a `run`, or `dismiss`, gives it back."""
        await self._places.acquire()

    def dismiss(self) -> None:
        """Give a place back without having used it."""
        self._places.release()

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call *function* in a thread, with a copy of our context, and give what it returns or raises.

        Cancelling this abandons the thread: what it still does is not heard.
        """
        job = _Job(function)
        if self._idle == 0:
            self._start()
        else:
            self._idle -= 1
        job.ended.add_done_callback(lambda _: self._freed(job))
        self._jobs.put(job)
        try:
            # Shielded: the thread cannot be stopped, so its end is still to be heard of.
            returned, value = await asyncio.shield(job.ended)
        except asyncio.CancelledError:
            if not job.ended.done():
                job.abandoned = True
                self.abandoned += 1
            raise
        if not returned:
            raise value
        return value

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="tool", daemon=True).start()
        except RuntimeError:
            # The system gives no more threads: the call hears of it, and its place is free again.
            self._places.release()
            raise

    def _freed(self, job: _Job) -> None:
        self._idle += 1
        self._places.release()
        if job.abandoned:
            self.abandoned -= 1

    def _work(self) -> None:
        while True:
            self._jobs.get().call()


class _Job:
    def __init__(self, function: Callable[[], Any]) -> None:
        self.abandoned = False
        self.ended: asyncio.Future[tuple[bool, Any]] = asyncio.get_running_loop().create_future()
        self._function = function
        self._context = contextvars.copy_context()

    def call(self) -> None:
        try:
            outcome = (True, self._context.run(self._function))
        except BaseException as exc:  # noqa: BLE001
            # A future refuses StopIteration, and a thread that dies of SystemExit would never be heard of.
            outcome = (False, exc)
        loop = self.ended.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self.ended.set_result, outcome)
