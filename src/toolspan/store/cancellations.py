"""What workers find of calls that were given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError

from toolspan.store.connection import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection


class CancellationStore:
    """Finds what was given up before. Raises StoreError, nothing else of Redis."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._asking = connection.private()
        self._calls = keys.calls
        self._cancel = keys.cancel

    async def given_up(self, call_ids: Sequence[str]) -> list[str]:
        """Tell which of *call_ids* were given up; nobody else may ask meanwhile."""
        with translated():
            found = await cast(
                "Any", self._asking.execute_command("MGET", *(self._cancel(call_id) for call_id in call_ids))
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
