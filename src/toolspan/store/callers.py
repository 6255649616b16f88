"""What a caller does in Redis: append calls, read the replies, and let go of what it has read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from toolspan.model import Entry
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_PAGE: Final = 1_000


class CallerStore:
    """Appends calls and reads one reply stream. Every method raises StoreError, and nothing else of Redis."""

    def __init__(self, connection: Connection, keys: Keys, *, gateway_id: str, block_ms: int) -> None:
        self.reply_to = keys.replies(gateway_id)
        self._calls = keys.calls
        self._redis = connection.commands
        self._reader = connection.blocking(block_ms)
        self._block_ms = block_ms
        self._append = Script("append")

    async def append(self, fields: Sequence[str | bytes], *, timeout_ms: int | None = None) -> str:
        """Append a call and give its entry id. With *timeout_ms* it gets a deadline, by Redis' clock.

        Is never sent twice: after StoreUnavailableError the call may have been accepted or not.
        """
        with translated():
            entry_id: bytes = await self._append.run(
                self._redis, stream=self._calls, timeout_ms="" if timeout_ms is None else timeout_ms, fields=fields
            )
        return entry_id.decode()

    async def read_replies(self, after: str) -> list[Entry]:
        """Give the replies after the entry id *after*, `0` for the first; wait for one as long as a block lasts."""
        with translated():
            answer = await cast("Any", self._reader.execute_command(
                "XREAD", "COUNT", _PAGE, "BLOCK", self._block_ms, "STREAMS", self.reply_to, after
            ))  # fmt: skip
        return [Entry(entry_id.decode(), fields) for entry_id, fields in answer[0][1]] if answer else []

    async def trim_replies(self, through: str) -> None:
        """Delete the replies up to and with the entry id *through*, which have been read."""
        ms, _, seq = through.partition("-")
        with translated():
            await cast("Any", self._redis.execute_command(
                "XTRIM", self.reply_to, "MINID", "=", f"{ms}-{int(seq) + 1}"
            ))  # fmt: skip

    async def forget_replies(self) -> None:
        """Delete the reply stream: nobody reads it any more."""
        with translated():
            await cast("Any", self._redis.execute_command("DEL", self.reply_to))
