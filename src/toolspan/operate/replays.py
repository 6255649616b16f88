"""Puts many dead letters back, no faster than asked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolspan.errors import MalformedEntryError, NotReplayableError
from toolspan.operate.dead_letters import NOTHING_SAID, Said, check, replay

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from toolspan.codec import Codec
    from toolspan.model import DeadLetter
    from toolspan.operate.letter_finder import LetterFinder
    from toolspan.store import DeadLetterStore
    from toolspan.telemetry.probe import Probe


@dataclass(frozen=True, slots=True)
class Replayed:
    """A dead letter that is a call again."""

    dead_letter: str
    call_id: str
    entry_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A dead letter that was not put back, or none at all; *why* is a sentence that names it."""

    dead_letter: str
    why: str


async def each_of(finder: LetterFinder, ids: Iterable[str]) -> AsyncIterator[DeadLetter | Refused]:
    """Look up the dead letters of these *ids*, each when it is asked for."""
    for letter_id in ids:
        try:
            yield await finder.one(letter_id)
        except (NotReplayableError, MalformedEntryError) as exc:
            yield Refused(letter_id, str(exc))


class Replayer:
    """Replays dead letters one after the other; whatever ends it half-way, those that it has replayed are gone.

    *rate* bounds how many it puts back in a second, *reply_to* is where the new calls are answered, and *matching* says
    by which filters they were chosen.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        probe: Probe,
        *,
        codec: Codec,
        who: str,
        said: Said = NOTHING_SAID,
        rate: float | None = None,
        reply_to: str | None = None,
        matching: str = "",
    ) -> None:
        self._store = store
        self._probe = probe
        self._codec = codec
        self._who = who
        self._said = said
        self._gap = 1 / rate if rate else 0.0
        self._due = float("-inf")
        self._reply_to = reply_to
        self._matching = matching

    async def replay(self, letters: AsyncIterator[DeadLetter | Refused]) -> AsyncIterator[Replayed | Refused]:
        """Put *letters* back, and tell of each what became of it."""
        async for letter in letters:
            yield letter if isinstance(letter, Refused) else await self._replay(letter)

    async def rehearse(self, letters: AsyncIterator[DeadLetter | Refused]) -> AsyncIterator[DeadLetter | Refused]:
        """Tell which of *letters* `replay` would put back, and why it would refuse the others; nothing changes."""
        async for letter in letters:
            if isinstance(letter, Refused):
                yield letter
                continue
            try:
                check(letter, codec=self._codec, said=self._said)
            except NotReplayableError as exc:
                yield Refused(letter.id, str(exc))
            else:
                yield letter

    async def _replay(self, letter: DeadLetter) -> Replayed | Refused:
        await asyncio.sleep(self._due - time.monotonic())
        try:
            call_id, entry_id = await replay(
                self._store,
                letter,
                self._probe,
                codec=self._codec,
                who=self._who,
                said=self._said,
                reply_to=self._reply_to,
                matching=self._matching,
            )
        except NotReplayableError as exc:
            return Refused(letter.id, str(exc))
        # Counted from its end: however slow one was, the next ones do not catch up.
        self._due = time.monotonic() + self._gap
        return Replayed(letter.id, call_id, entry_id)
