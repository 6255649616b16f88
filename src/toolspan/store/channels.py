"""Channels: what Redis tells those who listen, once and to nobody who comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from toolspan.errors import StoreUnavailableError
from toolspan.store.connection import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolspan.store.connection import Connection

SILENT_SECONDS: Final = 5.0
"""After so long without a word we ask whether anybody is still there."""

_BEGUN: Final = {b"subscribe", b"psubscribe"}
_WORD: Final = 2
"""Where the channel stands in a message that was heard through a pattern; its text comes behind it."""


class Told(NamedTuple):
    """Something was said on *channel*; *message* is None where we are told that we listen to it from now on.

    That may be a pattern: then what is said is told with the channel on which it was.
    """

    channel: str
    message: bytes | None


class Channels:
    """One connection that listens; it breaks rather than miss a word. Raises StoreError only.

    One task may ask `next` while others subscribe. Whatever was said before `next` tells that we listen has to be
    looked for where it is kept, and so after each `open`.
    """

    def __init__(self, connection: Connection) -> None:
        self._pool = connection.listening(SILENT_SECONDS).connection_pool
        self._connection: Any = None

    async def open(self) -> None:
        """Connect, anew if need be; nothing is listened to yet."""
        await self.close()
        with translated():
            self._connection = await self._pool.get_connection()

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Listen to *channels*, at least one; `next` tells from when on."""
        await self._send("SUBSCRIBE", *channels)

    async def subscribe_to_all(self, prefix: str) -> None:
        """Listen to every channel whose name begins with *prefix*, which has to be one that is free of patterns."""
        await self._send("PSUBSCRIBE", f"{prefix}*")

    async def unsubscribe(self, channel: str) -> None:
        """Listen to *channel* no longer."""
        await self._send("UNSUBSCRIBE", channel)

    async def next(self) -> Told | None:
        """Wait for what is told next, for some seconds; None: nothing that is of interest was.

        Must not be cancelled in between two calls: a part of a message may have been read.
        """
        heard = await self._heard()
        if heard is None:
            # A connection may be dead without a sign of it.
            await self._send("PING")
            heard = await self._heard()
        if heard is None:
            message = "nobody answers on the connection that listens"
            raise StoreUnavailableError(message)
        return _told(heard)

    async def close(self) -> None:
        """Stop listening."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # It hears for as long as it lives: nobody else shall be given it.
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)

    async def _heard(self) -> Any:
        with translated():
            return await self._connection.read_response(timeout=SILENT_SECONDS)

    async def _send(self, *command: str) -> None:
        connection = self._connection
        if connection is not None:
            with translated():
                await connection.send_command(*command)


def _told(heard: Any) -> Told | None:
    if not isinstance(heard, list):
        # The answer to a PING where nothing is listened to.
        return None
    if heard[0] in _BEGUN:
        return Told(_text(heard[1]), None)
    if heard[0] == b"message":
        return Told(_text(heard[1]), heard[2])
    if heard[0] == b"pmessage":
        return Told(_text(heard[_WORD]), heard[_WORD + 1])
    return None


def _text(channel: bytes) -> str:
    return channel.decode(errors="replace")
