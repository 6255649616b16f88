"""Dead letters: list, show, replay, discard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from toolspan.codec import decode_dead_letter
from toolspan.errors import MalformedEntryError
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.keys import Keys
    from toolspan.model import DeadLetter
    from toolspan.store.connection import Connection

_PAGE: Final = 200


class DeadLetterStore:
    """Reads and ends dead letters. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys
        self._letters = Script("letters")
        self._replay = Script("replay")
        self._discard = Script("discard")

    async def all(self, left_out: list[str] | None = None) -> AsyncIterator[DeadLetter]:
        """Go through all dead letters, oldest first, a page at a time.

        What cannot be read as one of ours is left out; *left_out* gets its ids.
        """
        first = "-"
        while True:
            page = await self._page(first, "+", _PAGE)
            for letter_id, fields, original in page:
                try:
                    yield decode_dead_letter(letter_id, fields, original)
                except MalformedEntryError:
                    if left_out is not None:
                        left_out.append(letter_id)
            if len(page) < _PAGE:
                return
            first = f"({page[-1][0]}"

    async def one(self, letter_id: str) -> DeadLetter | None:
        """Give the dead letter of this id, or None if there is none.

        Raises:
            MalformedEntryError: if what lies there was not written by a worker.
        """
        page = await self._page(letter_id, letter_id, 1)
        return decode_dead_letter(*page[0]) if page else None

    async def replay(self, letter: DeadLetter, *, call_id: str, fields: Sequence[str | bytes], who: str) -> str | None:
        """Put *letter* back as the call *call_id* with *fields*; None if somebody else has ended it meanwhile."""
        with translated():
            entry_id: bytes | None = await self._replay.run(
                self._redis,
                stream=self._keys.calls,
                dead_letters=self._keys.dead_letters,
                audit=self._keys.audit,
                events=self._keys.events,
                letter_id=letter.id,
                call_id=call_id,
                who=who,
                fields=fields,
            )
        return entry_id.decode() if entry_id else None

    async def discard(self, letter_id: str, *, who: str, why: str) -> bool:
        """Throw a dead letter away and keep who and why in the audit stream; False if it was not there."""
        with translated():
            return bool(
                await self._discard.run(
                    self._redis,
                    dead_letters=self._keys.dead_letters,
                    audit=self._keys.audit,
                    letter_id=letter_id,
                    who=who,
                    why=why,
                )
            )

    async def _page(self, first: str, last: str, count: int) -> list[tuple[str, list[bytes], list[Any] | None]]:
        with translated():
            raw = await self._letters.run(
                self._redis, dead_letters=self._keys.dead_letters, first=first, last=last, count=count
            )
        return [(row[0].decode(), row[1], row[2] if len(row) > 2 else None) for row in raw]  # noqa: PLR2004
