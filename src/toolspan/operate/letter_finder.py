"""Which dead letter is meant, by its own id, its entry's or its call's; and what became of one that is gone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from toolspan.errors import MalformedEntryError, NotReplayableError
from toolspan.model import id_order
from toolspan.operate.calls import about, codec_of
from toolspan.operate.stopping import heed_cancellation
from toolspan.store import DeadLetterStore, EntryReader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolspan.model import DeadLetter, LetterEntry
    from toolspan.settings import Settings
    from toolspan.store import Connection

SEARCHED: Final = 10_000
"""Dead letters, the newest, among which an entry or a call is searched for."""

# Longer numbers than Redis takes are no id either.
_ID: Final = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?", re.ASCII)
_LOOKED_AT: Final = 100
_NAMED: Final = 10


class LetterFinder:
    """Looks dead letters up. Its methods raise NotReplayableError where none, or more than one, is meant."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._letters = DeadLetterStore(connection, settings.keys)
        self._entries = EntryReader(connection, settings.keys)
        self._codec = codec_of(settings)

    async def one(self, asked: str) -> DeadLetter:
        """Give the dead letter that *asked* means.

        Raises:
            MalformedEntryError: if what lies there was not written by a worker.
        """
        entry = await self.entry(asked)
        if entry.letter is None:
            raise MalformedEntryError(entry.problem)
        return entry.letter

    async def entry(self, asked: str) -> LetterEntry:
        """Give what *asked* means, readable or not. The id of a dead letter means that one, whatever else bears it."""
        heed_cancellation()
        if _ID.fullmatch(asked):
            entry = await self._letters.entry(asked)
            if entry is not None:
                return entry
        found, more = await self._searched(asked) if asked else ([], False)
        if len(found) == 1:
            return found[0]
        if found:
            named = ", ".join(one.id for one in found[:_NAMED]) + (" …" if found[_NAMED:] else "")
            message = f"{asked} means several dead letters, say which: {named}"
            raise NotReplayableError(message)
        bound = f"; of entries and calls only the newest {SEARCHED} were searched" if more else ""
        raise NotReplayableError(await self._absence(asked) + bound)

    async def _searched(self, asked: str) -> tuple[list[LetterEntry], bool]:
        candidates = await self._entries.dead_letters_with(asked, scan=SEARCHED)
        found: list[LetterEntry] = []
        # A search may find more than was meant: the id in the arguments of a payload, or what repeats the call.
        for letter_id in candidates.ids[:_LOOKED_AT]:
            entry = await self._letters.entry(letter_id)
            letter = entry and entry.letter
            if (
                entry
                and letter
                and asked in {letter.entry_id, about(self._codec, letter.entry_id, letter.fields).call_id}
            ):
                found.append(entry)
        return found, candidates.more or len(candidates.ids) > _LOOKED_AT

    async def _absence(self, asked: str) -> str:
        """Say that there is none, and what became of it as far as the audit stream knows."""
        for one in reversed(await self._entries.audits_of(asked)):
            if asked in {one.get("dead_letter"), one.get("dlq.id")}:
                return f"there is no dead letter {asked} any more: {_end(one)}"
        if _ID.fullmatch(asked):
            for one in await self._entries.purges():
                if _ID.fullmatch(one.get("up_to", "")) and id_order(asked) <= id_order(one["up_to"]):
                    by, up_to = one.get("who"), one["up_to"]
                    return f"there is no dead letter {asked}: {by} purged those up to {up_to}, {one.get('why', '')}"
        return f"there is no dead letter {asked}: `toolspan dlq ls` lists them"


def _end(audit: Mapping[str, str]) -> str:
    who = audit.get("who")
    if audit.get("action") == "replay":
        return f"{who} replayed it as call {audit.get('call')}, entry {audit.get('entry')}"
    return f"{who} discarded it: {audit.get('why', '')}"
