"""Progress replies, under the same fence as final ones."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from toolspan.model import value
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_SHARE: Final = 2
"""The part of a reply stream that progress may fill; the rest is for final replies."""


class Progressed(IntEnum):
    """What became of a progress reply. NO_ROOM: nobody reads it fast enough, or it cannot be written."""

    NOT_OURS = 0
    DONE = 1
    NO_ROOM = 2


@value
class ProgressReply:
    """One progress reply to be written: the fence, and the reply as it goes on the wire."""

    entry_id: str
    attempt: int
    reply_to: str
    reply: Sequence[str | bytes]


class ProgressStore:
    """Writes progress for one consumer. Every method raises StoreError, and nothing else of Redis."""

    def __init__(
        self, connection: Connection, keys: Keys, *, me: str, reply_ttl_seconds: int, reply_maxlen: int
    ) -> None:
        self.me = me
        self._redis = connection.commands
        self._keys = keys
        self._reply_ttl_seconds = reply_ttl_seconds
        self._most = reply_maxlen // _SHARE
        self._progress = Script("progress")

    async def write(self, replies: Sequence[ProgressReply]) -> list[Progressed]:
        """Write progress replies, and tell of each what became of it. Asked twice, it writes twice."""
        streams: dict[str, int] = {}
        entries: list[Any] = []
        for one in replies:
            stream = streams.setdefault(one.reply_to, len(streams) + 1)
            entries += (one.entry_id, one.attempt, stream, len(one.reply))
            entries += one.reply
        with translated():
            answer: bytes = await self._progress.run(
                self._redis,
                stream=self._keys.calls,
                replies=list(streams),
                group=self._keys.group,
                consumer=self.me,
                reply_ttl=self._reply_ttl_seconds,
                most=self._most,
                entries=entries,
            )
        return [Progressed(int(digit)) for digit in answer.decode()]
