"""Channels: what Redis tells those who listen, once and to nobody who comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from toolspan.store.connection import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolspan.store.connection import Connection


class Told(NamedTuple):
    """Something was said on *channel*; *message* is None where we are told that we listen to it from now on."""

    channel: str
    message: bytes | None


class Channels:
    """One connection that listens. One task may ask `next` while others subscribe; raises StoreError only."""

    def __init__(self, connection: Connection) -> None:
        self._pool = connection.blocking(0).connection_pool
        self._connection: Any = None

    async def open(self) -> None:
        """Connect, anew if need be; nothing is listened to yet."""
        await self.close()
        with translated():
            self._connection = await self._pool.get_connection()

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Listen to *channels*, at least one; `next` tells from when on."""
        await self._send("SUBSCRIBE", *channels)

    async def unsubscribe(self, channel: str) -> None:
        """Listen to *channel* no longer."""
        await self._send("UNSUBSCRIBE", channel)

    async def next(self) -> Told | None:
        """Wait for what is told next; None for what is of no interest."""
        with translated():
            kind, channel, said = (await self._connection.read_response(timeout=float("inf")))[:3]
        if kind not in {b"message", b"subscribe"}:
            return None
        return Told(channel.decode(), said if kind == b"message" else None)

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _send(self, *command: str) -> None:
        connection = self._connection
        if connection is not None:
            with translated():
                await connection.send_command(*command)
