"""Hears how the calls end that an operator has made, on a reply stream that goes with him."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from toolspan.errors import MalformedEntryError, StoreError
from toolspan.model import Reply
from toolspan.operate.stopping import heed_cancellation
from toolspan.periodic import ended
from toolspan.store import CallerStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from types import TracebackType

    from toolspan.codec import Codec
    from toolspan.keys import Keys
    from toolspan.model import Failed
    from toolspan.store import Connection
    from toolspan.telemetry.probe import Probe

_BLOCK_MS: Final = 1_000
_AGAIN_SECONDS: Final = 0.2
_CLOSE_SECONDS: Final = 2.0


class Answers:
    """Reads replies from when its block is entered; when that is left, the reply stream is deleted.

    A reply that comes later still makes one, which expires by itself.
    """

    def __init__(self, connection: Connection, keys: Keys, codec: Codec, probe: Probe) -> None:
        me = f"operator-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._store = CallerStore(connection, keys, gateway_id=me, block_ms=_BLOCK_MS)
        self._codec = codec
        self._probe = probe
        self._ended: dict[str, Failed | None] = {}
        self._came = asyncio.Condition()
        self._reader: asyncio.Task[None]
        self.reply_to = self._store.reply_to

    async def __aenter__(self) -> Self:
        self._reader = asyncio.create_task(self._read(), name="answers")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await ended(self._reader)
        # Where Redis is away, no worker writes either; and what one writes expires.
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._store.forget_replies()

    async def to(self, call_ids: Iterable[str], *, within: float) -> AsyncIterator[tuple[str, Failed | None]]:
        """Give for each of *call_ids* that is answered *within* so many seconds its failure, or None if it has none."""
        heed_cancellation()
        waiting = set(call_ids)
        deadline = asyncio.get_running_loop().time() + within
        while waiting:
            try:
                async with asyncio.timeout_at(deadline), self._came:
                    await self._came.wait_for(lambda: not waiting.isdisjoint(self._ended))
            except TimeoutError:
                return
            for call_id in waiting & self._ended.keys():
                waiting.remove(call_id)
                yield call_id, self._ended[call_id]

    async def _read(self) -> None:
        while True:
            try:
                await self._round()
            except StoreError as exc:
                self._probe.outage("replies", exc)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                self._probe.recovered("replies")

    async def _round(self) -> None:
        entries = await self._store.read_replies()
        for entry in entries:
            try:
                reply = self._codec.decode_answer(entry.fields)
            except MalformedEntryError as exc:
                self._probe.bug("replies", exc)
                continue
            if isinstance(reply, Reply):
                self._ended[reply.call_id] = reply.failure
        if entries:
            async with self._came:
                self._came.notify_all()
