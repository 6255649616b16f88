"""Reads one reply stream and gives each reply to whoever waits for it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from toolspan.errors import MalformedEntryError, StoreError

if TYPE_CHECKING:
    from toolspan.codec import Codec
    from toolspan.model import Entry, Reply
    from toolspan.store import CallerStore
    from toolspan.telemetry.probe import Probe

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0


class Replies:
    """The calls of this process that wait, and the one reader that wakes them."""

    def __init__(self, store: CallerStore, codec: Codec, probe: Probe) -> None:
        self.healthy = True
        """Whether the last read went well."""
        self._store = store
        self._codec = codec
        self._probe = probe
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._after = "0"

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, call_id: str) -> asyncio.Future[Reply]:
        """Give what will be the reply to *call_id*; ask before the call is sent."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        return future

    def forget(self, call_id: str) -> None:
        """Stop waiting for the reply to *call_id*."""
        self._waiting.pop(call_id, None)

    async def run(self) -> None:
        """Read until cancelled. Redis being away is waited out: what was read last says where to go on."""
        wait = _FIRST_WAIT
        while True:
            try:
                entries = await self._store.read_replies(self._after)
                self._deliver(entries)
                if entries:
                    await self._store.trim_replies(self._after)
            except StoreError as exc:
                self.healthy = False
                self._probe.outage("replies", exc)
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self.healthy = True
                self._probe.recovered("replies")
                wait = _FIRST_WAIT

    def _deliver(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._after = entry.id
            try:
                reply = self._codec.decode_reply(entry.fields)
            except MalformedEntryError as exc:
                self._probe.bug("replies", exc)
                continue
            future = self._waiting.pop(reply.call_id, None)
            if future is not None and not future.done():
                future.set_result(reply)
