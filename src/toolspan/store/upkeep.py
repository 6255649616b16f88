"""What keeps a group in order: dead consumers go, parked calls stay due, records of what is gone are cleared away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from toolspan.store.connection import translated
from toolspan.store.names import raw_of
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_PAGE: Final = 1_000
_RESTORE_PAGES: Final = 100
_TIDY_PAGE: Final = 100
_TIDY_PAGES: Final = 20


class Upkeep:
    """What anybody may do for a group. Every method raises StoreError, and nothing else of Redis."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._keys = keys
        self._redis = connection.commands
        self._restore = Script("restore")
        self._tidy = Script("tidy")
        self._reap = Script("reap")
        self._unparked_after = "-"
        self._records_cursor = 0

    async def reap(self, consumer: str, *, silent_ms: int) -> bool:
        """Delete *consumer* if it holds nothing and was silent for *silent_ms*; False: it stays."""
        with translated():
            return bool(
                await self._reap.run(
                    self._redis,
                    stream=self._keys.calls,
                    workers=self._keys.workers,
                    worker=raw_of(self._keys.worker(consumer)),
                    streams=self._keys.streams,
                    control=self._keys.control,
                    group=self._keys.group,
                    consumer=raw_of(consumer),
                    silent_ms=silent_ms,
                    name=self._keys.stream,
                )
            )

    async def restore_parked(self) -> int:
        """Make calls due that are parked without a due time, and tell how many: else nobody would take them again.

        Looks at a bounded number of them, and goes on from there the next time; where none is missing that costs next
        to nothing.
        """
        restored = 0
        for _ in range(_RESTORE_PAGES):
            with translated():
                last, made_due = await self._restore.run(
                    self._redis,
                    stream=self._keys.calls,
                    parked=self._keys.parked,
                    group=self._keys.group,
                    after=self._unparked_after,
                    count=_PAGE,
                )
            restored += made_due
            self._unparked_after = f"({last.decode()}" if last else "-"
            if not last:
                break
        return restored

    async def forget_gone(self) -> int:
        """Delete records under `attempts` whose call is gone, and tell how many; goes on the next time as well."""
        deleted = 0
        for _ in range(_TIDY_PAGES):
            with translated():
                cursor, found = await self._tidy.run(
                    self._redis,
                    stream=self._keys.calls,
                    attempts=self._keys.attempts,
                    group=self._keys.group,
                    cursor=self._records_cursor,
                    count=_TIDY_PAGE,
                )
            self._records_cursor = int(cursor)
            deleted += found
            if self._records_cursor == 0:
                break
        return deleted
