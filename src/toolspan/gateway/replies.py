"""Reads one reply stream and gives each reply to whoever waits for it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from toolspan.errors import MalformedEntryError, StoreError, ToolTimeout
from toolspan.model import Failed, Progress
from toolspan.periodic import ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolspan.codec import Codec
    from toolspan.model import Entry, Reply
    from toolspan.store import CallerStore
    from toolspan.telemetry.probe import Probe

BLOCK_MS: Final = 1_000
_STALE_SECONDS: Final = 3.0
"""A read that takes longer than this, its block included, stands still."""

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0


class Replies:
    """The calls of one client that wait, and the one reader that wakes them."""

    def __init__(self, store: CallerStore, codec: Codec, probe: Probe) -> None:
        self._store = store
        self._codec = codec
        self._probe = probe
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._following: dict[str, Callable[[Progress], None]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._reading = True
        self._read_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def healthy(self) -> bool:
        """Whether replies are being read: the last read went well, and is not long ago."""
        alive = self._reader is not None and not self._reader.done()
        return alive and self._reading and time.monotonic() - self._read_at < _STALE_SECONDS

    def start(self) -> None:
        """Begin to read."""
        self._read_at = time.monotonic()
        self._reader = asyncio.create_task(self._read(), name="replies")
        self._reader.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop reading. Whoever still waits is told so, for nobody would hear his reply."""
        self.abandon()
        if self._reader is not None:
            await ended(self._reader)

    def expect(self, call_id: str, progressed: Callable[[Progress], None] | None = None) -> asyncio.Future[Reply]:
        """Give what will be the reply to *call_id*; ask before the call is sent.

        Whatever is told of its progress goes to *progressed*, until it is forgotten.

        Raises:
            RuntimeError: if nobody reads replies.
        """
        if self._reader is None or self._reader.done():
            message = "nobody reads replies: use the client inside its `with` block"
            raise RuntimeError(message)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        if progressed is not None:
            self._following[call_id] = progressed
        return future

    def forget(self, call_id: str) -> None:
        """Stop waiting for the reply to *call_id*."""
        self._waiting.pop(call_id, None)
        self._following.pop(call_id, None)

    def abandon(self) -> None:
        """Answer every call that waits with ToolTimeout, now."""
        message = "the caller stopped before the reply came"
        failure = Failed("deadline_exceeded", message, retryable=True, detail={"may_still_run": True})
        self._fail(ToolTimeout(failure))

    def _fail(self, error: BaseException) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
                # Nobody need ask: a detached call has no waiter.
                future.exception()
        self._waiting.clear()

    def _ended(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        if error is not None:
            # A bug of ours. Without a reader no call can be answered: say so at once, not after its timeout.
            self._probe.bug("replies", error)
            self._fail(error)

    async def _read(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                await self._round()
            except StoreError as exc:
                self._reading = False
                self._probe.outage("replies", exc)
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self._reading = True
                self._read_at = time.monotonic()
                self._probe.recovered("replies")
                wait = _FIRST_WAIT

    async def _round(self) -> None:
        # Always from the beginning: what was read is deleted, so whatever lies there was not. Ids are no
        # guide: they start anew on a server that was flushed or replaced, and may be lower than before.
        began_ns = time.monotonic_ns()
        entries = await self._store.read_replies()
        if entries:
            ended_ns = time.monotonic_ns()
            malformed = sum(not self._deliver(entry) for entry in entries)
            self._probe.answers_read(len(entries), malformed=malformed, began_ns=began_ns, ended_ns=ended_ns)
            # Whoever has waited for one of them goes first.
            await asyncio.sleep(0)

    def _deliver(self, entry: Entry) -> bool:
        """Hand a reply to whoever waits for it; False if it cannot be read."""
        try:
            reply = self._codec.decode_answer(entry.fields)
        except MalformedEntryError as exc:
            self._probe.bug("replies", exc)
            return False
        if isinstance(reply, Progress):
            progressed = self._following.get(reply.call_id)
            if progressed is not None:
                progressed(reply)
            return True
        future = self._waiting.pop(reply.call_id, None)
        if future is not None and not future.done():
            future.set_result(reply)
        return True
