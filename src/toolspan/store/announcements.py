"""Hears at once that operators have asked for something."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from toolspan.errors import StoreError, StoreUnavailableError
from toolspan.store.connection import translated

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_QUIET_SECONDS: Final = 10.0
"""So long nothing may come before we ask whether anybody is still there."""


class Announcements:
    """Listens to the channel of the control hash, on a connection of its own. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.blocking(int(_QUIET_SECONDS * 1000))
        self._channel = keys.control
        self._pubsub: Any = None
        self._asked = False

    async def news(self) -> bool:
        """Wait until something is announced, or may have been while nobody listened; False: nothing for a while."""
        try:
            with translated():
                return await self._news()
        except (StoreError, ValueError):
            await self.aclose()
            raise

    async def _news(self) -> bool:
        if self._pubsub is None:
            self._pubsub = self._redis.pubsub()
            self._asked = False
            await self._pubsub.subscribe(self._channel)
        message = await self._pubsub.get_message(timeout=_QUIET_SECONDS)
        if message is not None:
            self._asked = False
            # What was announced before we were heard to listen is to be looked for as well.
            return message["type"] in {"subscribe", "message"}
        if self._asked:
            message = "nobody answers on the connection that listens"
            raise StoreUnavailableError(message)
        self._asked = True
        await cast("Any", self._pubsub.ping())
        return False

    async def aclose(self) -> None:
        """Listen no more."""
        pubsub, self._pubsub = self._pubsub, None
        if pubsub is not None:
            with suppress(StoreError), translated():
                await pubsub.aclose()
