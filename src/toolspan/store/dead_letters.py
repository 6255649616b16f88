"""Dead letters: list, show, replay, discard, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from toolspan.codec import decode_dead_letter
from toolspan.errors import MalformedEntryError
from toolspan.model import LetterEntry
from toolspan.store.clock import redis_ms
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.keys import Keys
    from toolspan.model import DeadLetter
    from toolspan.store.connection import Connection

_PAGE: Final = 200
_PAGE_BYTES: Final = 1_000_000
_PURGED_AT_ONCE: Final = 500


class DeadLetterStore:
    """Reads and ends dead letters. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys
        self._letters = Script("letters")
        self._replay = Script("replay")
        self._discard = Script("discard")
        self._purge = Script("purge")

    async def entries(self, *, through: str = "+") -> AsyncIterator[LetterEntry]:
        """Go through all that lies among the dead letters up to the id *through*, oldest first, a page at a time."""
        first = "-"
        while page := await self._page(first, through, _PAGE):
            for entry in page:
                yield entry
            first = f"({page[-1].id}"

    async def all(self, left_out: list[str] | None = None, *, through: str = "+") -> AsyncIterator[DeadLetter]:
        """Go through all dead letters up to the id *through*, oldest first, a page at a time.

        What cannot be read as one of ours is left out; *left_out* gets its ids.
        """
        async for entry in self.entries(through=through):
            if entry.letter is not None:
                yield entry.letter
            elif left_out is not None:
                left_out.append(entry.id)

    async def entry(self, letter_id: str) -> LetterEntry | None:
        """Give what lies among the dead letters under this id, or None if there is nothing."""
        page = await self._page(letter_id, letter_id, 1)
        return page[0] if page else None

    async def one(self, letter_id: str) -> DeadLetter | None:
        """Give the dead letter of this id, or None if there is none.

        Raises:
            MalformedEntryError: if what lies there was not written by a worker.
        """
        entry = await self.entry(letter_id)
        if entry is not None and entry.letter is None:
            raise MalformedEntryError(entry.problem)
        return entry.letter if entry else None

    async def last_id(self, *, before_ms: int | None = None) -> str | None:
        """Give the id of the youngest dead letter, of those from before *before_ms* if that is given; None: no such."""
        if before_ms is not None and before_ms <= 0:
            return None
        last = "+" if before_ms is None else f"({before_ms}-0"
        with translated():
            found: Any = await cast("Any", self._redis.execute_command(
                "XREVRANGE", self._keys.dead_letters, last, "-", "COUNT", 1
            ))  # fmt: skip
        return found[0][0].decode() if found else None

    async def now_ms(self) -> int:
        """Redis' clock in unix ms, by which dead letters have their ids."""
        with translated():
            return await redis_ms(self._redis)

    async def replay(
        self, letter: DeadLetter, *, call_id: str, fields: Sequence[str | bytes], who: str, matching: str = ""
    ) -> str | None:
        """Put *letter* back as the call *call_id* with *fields*; None if somebody else has ended it meanwhile.

        *matching* says by which filters it was chosen, for the audit stream.
        """
        with translated():
            entry_id: bytes | None = await self._replay.run(
                self._redis,
                stream=self._keys.calls,
                dead_letters=self._keys.dead_letters,
                audit=self._keys.audit,
                events=self._keys.events,
                letter_id=letter.id,
                original_id=letter.entry_id,
                call_id=call_id,
                who=who,
                matching=matching,
                fields=fields,
            )
        return entry_id.decode() if entry_id else None

    async def discard(self, letter_id: str, *, entry_id: str = "", who: str, why: str, matching: str = "") -> bool:
        """Throw a dead letter away and keep who and why in the audit stream; False if it was not there.

        *entry_id* is what it says it was in the stream, for the audit stream too.
        """
        with translated():
            return bool(
                await self._discard.run(
                    self._redis,
                    dead_letters=self._keys.dead_letters,
                    audit=self._keys.audit,
                    letter_id=letter_id,
                    original_id=entry_id,
                    who=who,
                    why=why,
                    matching=matching,
                )
            )

    async def purge(self, *, through: str, who: str, why: str, matching: str) -> AsyncIterator[int]:
        """Delete all up to the id *through*, readable or not, in steps; give after each how many it were so far.

        Redis serves others between the steps, and whoever stops asking stops the purge. The audit stream has one
        entry for all steps, with how many they have deleted.
        """
        purged, noted = 0, b""
        while True:
            with translated():
                deleted, noted = await self._purge.run(
                    self._redis,
                    dead_letters=self._keys.dead_letters,
                    audit=self._keys.audit,
                    last=through,
                    count=_PURGED_AT_ONCE,
                    who=who,
                    why=why,
                    matching=matching,
                    purged=purged,
                    noted=noted,
                )
            if not deleted:
                return
            purged += deleted
            yield purged

    async def _page(self, first: str, last: str, count: int) -> list[LetterEntry]:
        with translated():
            raw = await self._letters.run(
                self._redis,
                dead_letters=self._keys.dead_letters,
                first=first,
                last=last,
                count=count,
                bytes=_PAGE_BYTES,
            )
        return [_entry(row[0].decode(), row[1], row[2] if len(row) > 2 else None) for row in raw]  # noqa: PLR2004


def _entry(letter_id: str, fields: list[bytes], unpacked: list[Any] | None) -> LetterEntry:
    whole = unpacked and len(unpacked) % 2 == 0 and all(isinstance(part, bytes) for part in unpacked)
    original = unpacked if whole else None
    try:
        return LetterEntry(letter_id, fields, original, decode_dead_letter(letter_id, fields, unpacked))
    except MalformedEntryError as exc:
        return LetterEntry(letter_id, fields, original, None, str(exc))
