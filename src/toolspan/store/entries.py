"""Looks at entries wherever they are, a page at a time, for operators; writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from toolspan.codec import decode_attempts
from toolspan.store.clock import redis_ms
from toolspan.store.connection import store_error, translated
from toolspan.store.names import name_of, printable, raw_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from toolspan.keys import Keys
    from toolspan.model import Attempt
    from toolspan.store.connection import Connection

_BODIES: Final = 20
"""Entries whose bodies are fetched at once: each may be as large as its arguments."""


@dataclass(frozen=True, slots=True)
class Held:
    """A pending entry. *consumer* is for people; *idle_ms* is since it was handed over or renewed."""

    entry_id: str
    consumer: str
    idle_ms: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Body:
    """What lies in Redis of an entry beside who holds it; *fields* is None where somebody deleted them."""

    fields: list[bytes] | None
    attempts: list[Attempt]


class EntryReader:
    """Reads of the stream, its group and the records of attempts. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys

    async def now_ms(self) -> int:
        """Redis' clock."""
        with translated():
            return await redis_ms(self._redis)

    async def waiting(self) -> tuple[int, str | None]:
        """Count the entries of a stream that may have no group yet, and name the first."""
        length, first = await self._answers(
            ("XLEN", self._keys.calls), ("XRANGE", self._keys.calls, "-", "+", "COUNT", 1)
        )
        return length, first[0][0].decode() if first else None

    async def dead_letters(self) -> tuple[int, str | None]:
        """Count the dead letters, and name the oldest."""
        length, first = await self._answers(
            ("XLEN", self._keys.dead_letters), ("XRANGE", self._keys.dead_letters, "-", "+", "COUNT", 1)
        )
        return length, first[0][0].decode() if first else None

    async def holders(self) -> dict[str, int]:
        """Tell how many entries are pending for each consumer of the group, by names as the store takes them back.

        Raises:
            GroupMissingError: if there is no group.
        """
        [consumers] = await self._answers(("XINFO CONSUMERS", self._keys.calls, self._keys.group))
        return {name_of(info[1]): int(info[3]) for info in consumers}

    async def held_by(self, owner: str, *, after: str | None = None, count: int) -> list[Held]:
        """Give up to *count* entries that *owner* holds, by their ids, beginning behind *after*."""
        first = f"({after}" if after else "-"
        [found] = await self._answers(
            ("XPENDING", self._keys.calls, self._keys.group, first, "+", count, raw_of(owner))
        )
        return [_held(row) for row in found]

    async def oldest_held(self, owners: Iterable[str]) -> list[str]:
        """Name the first entry that each of *owners* holds, of those that hold any."""
        pages = await self._answers(
            *(("XPENDING", self._keys.calls, self._keys.group, "-", "+", 1, raw_of(owner)) for owner in owners)
        )
        return [page[0][0].decode() for page in pages if page]

    async def bodies(self, entry_ids: Sequence[str]) -> list[Body]:
        """Fetch what lies there of each of *entry_ids*, in their order."""
        bodies: list[Body] = []
        for start in range(0, len(entry_ids), _BODIES):
            asked = entry_ids[start : start + _BODIES]
            entries = await self._answers(*(("XRANGE", self._keys.calls, one, one) for one in asked))
            records = await self._answers(*(("HGET", self._keys.attempts, one) for one in asked))
            bodies += [
                Body(entry[0][1] if entry else None, decode_attempts(record))
                for entry, record in zip(entries, records, strict=True)
            ]
        return bodies

    async def _answers(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands together, and give their answers."""
        answers = await self._sent(commands, at_once=False)
        for answer in answers:
            if isinstance(answer, ResponseError):
                raise store_error(answer) from answer
        return answers

    async def _sent(self, commands: Iterable[tuple[Any, ...]], *, at_once: bool) -> list[Any]:
        with translated():
            pipeline = self._redis.pipeline(transaction=at_once)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)


def _held(row: Sequence[Any]) -> Held:
    entry_id, owner, idle_ms, deliveries = row
    return Held(entry_id.decode(), printable(name_of(owner)), int(idle_ms), int(deliveries))
