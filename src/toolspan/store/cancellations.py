"""What workers hear and find of calls that were given up."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import ResponseError

from toolspan.errors import StoreUnavailableError
from toolspan.store.connection import translated

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

SILENT_SECONDS: Final = 5.0
"""After so long without a word we ask whether anybody is still there."""


class CancellationStore:
    """Finds what was given up before, and hears of what is now. Raises StoreError, nothing else of Redis."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._listener = connection.listening(SILENT_SECONDS)
        self._calls = keys.calls
        self._prefix = keys.cancel_prefix
        self._cancel = keys.cancel

    async def given_up(self, call_ids: Sequence[str]) -> list[str]:
        """Tell which of *call_ids* were given up."""
        with translated():
            found = await cast(
                "Any", self._redis.execute_command("MGET", *(self._cancel(call_id) for call_id in call_ids))
            )
        return [call_id for call_id, value in zip(call_ids, found, strict=True) if value is not None]

    async def last_appended_ms(self) -> int:
        """Give the time in the last entry id that the stream has given out; no later entry's is less."""
        with translated():
            try:
                about = await cast("Any", self._redis.execute_command("XINFO STREAM", self._calls))
            except ResponseError as exc:
                if "no such key" in str(exc):
                    return 0
                raise
        return int(about["last-generated-id"].partition(b"-")[0])

    @asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Heard]:
        """Hear everything that is told while the block lasts."""
        pool = self._listener.connection_pool
        with translated():
            connection = await pool.get_connection()
        try:
            heard = Heard(connection, self._prefix)
            await heard.begin()
            yield heard
        finally:
            # It hears for as long as it lives: nobody else shall be given it.
            await connection.disconnect(nowait=True)
            await pool.release(connection)


class Heard:
    """The messages of one subscription; it breaks rather than miss one."""

    def __init__(self, connection: AbstractConnection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix.encode()

    async def begin(self) -> None:
        """Subscribe, and wait until that is confirmed."""
        with translated():
            await self._connection.send_command("PSUBSCRIBE", self._prefix + b"*")
            await self._connection.read_response()

    async def next(self) -> str | None:
        """Wait for the next call id that somebody gave up, for some seconds; None: none was.

        Must not be cancelled in between two calls: a part of a message may have been read.
        """
        with translated():
            message = await self._connection.read_response(timeout=SILENT_SECONDS)
            if message is None:
                # A connection may be dead without a sign of it.
                await self._connection.send_command("PING")
                message = await self._connection.read_response(timeout=SILENT_SECONDS)
        if message is None:
            told = "the subscription to cancellations stands still"
            raise StoreUnavailableError(told)
        if message[0] != b"pmessage":
            return None
        return cast("bytes", message[2])[len(self._prefix) :].decode(errors="replace")
