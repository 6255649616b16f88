"""Looks at entries wherever they are, a page at a time, for operators; writes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from toolspan.codec import decode_attempts
from toolspan.errors import GroupMissingError
from toolspan.model import id_order
from toolspan.store.clock import redis_ms
from toolspan.store.connection import store_error, translated
from toolspan.store.names import name_of, printable, raw_of
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from toolspan.keys import Keys
    from toolspan.model import Attempt
    from toolspan.store.connection import Connection

_BODIES: Final = 20
"""Entries whose bodies are fetched at once: each may be as large as its arguments."""

_SEARCHED: Final = 20
"""Bodies that Redis looks through at once, for the same reason."""

_PAGE: Final = 1_000
_CAPPED: Final = 20_000
_IDS: Final = " id replay_of attempt_of dlq.id "
_WHOLES: Final = " payload dlq.raw "


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


@dataclass(frozen=True, slots=True)
class Glance:
    """All that Redis tells of one entry, of one moment.

    *passed* says whether the group has handed it out, or gone past it; False where there is no group.
    """

    now_ms: int
    body: Body
    held: Held | None
    due_ms: int | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave: entry ids, the newest first; *more* says that it ended at its bound, after *looked_at*."""

    ids: list[str]
    looked_at: int
    more: bool


class EntryReader:
    """Reads of the stream, its group and the records of attempts. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys
        self._find = Script("find")

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

    async def glance(self, entry_id: str) -> Glance:
        """Look at one entry, wherever it is."""
        calls, group, attempts = self._keys.calls, self._keys.group, self._keys.attempts
        answers = await self._sent(
            [
                ("XRANGE", calls, entry_id, entry_id),
                ("HGET", attempts, entry_id),
                ("ZSCORE", self._keys.parked, entry_id),
                ("TIME",),
                ("XPENDING", calls, group, entry_id, entry_id, 1),
                ("XINFO GROUPS", calls),
            ],
            at_once=True,
        )
        entry, record, due, time, held, groups = [
            None if _is_missing(answer) else _checked(answer) for answer in answers
        ]
        seconds, micros = time or (0, 0)
        # By its name: Redis answers with names and values in turn.
        mine = [one for one in groups or () if one[1].decode(errors="replace") == group]
        passed = bool(mine) and id_order(entry_id) <= id_order(mine[0][7].decode())
        return Glance(
            int(seconds) * 1000 + int(micros) // 1000,
            Body(entry[0][1] if entry else None, decode_attempts(record)),
            _held(held[0]) if held else None,
            None if due is None else int(due),
            passed,
        )

    async def calls_with(self, wanted: str, *, scan: int) -> Found:
        """Find calls that bear the id *wanted* or repeat what does, perhaps others too, among the *scan* newest."""
        return await self._search(self._keys.calls, _IDS, _WHOLES, _spelled(wanted), scan=scan, page=_SEARCHED)

    async def dead_letters_with(self, wanted: str, *, scan: int) -> Found:
        """Find the same among the *scan* newest dead letters."""
        return await self._search(self._keys.dead_letters, _IDS, _WHOLES, _spelled(wanted), scan=scan, page=_SEARCHED)

    async def events_of(self, entry_id: str) -> list[dict[str, str]]:
        """Give the exceptional steps of an entry that are on record, oldest first; the replay of a letter is one."""
        told = await self._told_of(self._keys.events, " reason ", entry_id, containing=" entry ")
        # One step may be that of many entries, whose ids may also be parts of one another.
        return [one for one in told if entry_id in {*one.get("entry", "").split(" "), one.get("reason")}]

    async def audits_of(self, wanted: str) -> list[dict[str, str]]:
        """Give what operators did to a dead letter, its own id or its entry's, or that made a call, oldest first."""
        return await self._told_of(self._keys.audit, " dead_letter dlq.id call entry ", wanted)

    async def purges(self) -> list[dict[str, str]]:
        """Give the purges that are on record, oldest first."""
        return await self._told_of(self._keys.audit, " action ", "purge")

    async def _told_of(self, key: str, equal: str, wanted: str, *, containing: str = "") -> list[dict[str, str]]:
        # Both streams are capped.
        found = await self._search(key, equal, containing, [raw_of(wanted)], scan=_CAPPED, page=_PAGE)
        entries = await self._answers(*(("XRANGE", key, one, one) for one in reversed(found.ids)))
        told = ([part.decode(errors="replace") for part in entry[0][1]] for entry in entries if entry)
        return [dict(zip(fields[::2], fields[1::2], strict=True)) for fields in told]

    async def _search(
        self, key: str, equal: str, containing: str, wanted: Sequence[bytes], *, scan: int, page: int
    ) -> Found:
        ids: list[str] = []
        looked_at, last = 0, "+"
        while looked_at < scan:
            with translated():
                behind, count, found = await self._find.run(
                    self._redis,
                    stream=key,
                    last=last,
                    count=min(page, scan - looked_at),
                    equal=equal,
                    containing=containing,
                    wanted=wanted,
                )
            looked_at += count
            ids += (one.decode() for one in found)
            if not behind:
                return Found(ids, looked_at, more=False)
            last = f"({behind.decode()}"
        return Found(ids, looked_at, more=True)

    async def _answers(self, *commands: tuple[Any, ...]) -> list[Any]:
        """Send commands together, and give their answers."""
        return [_checked(answer) for answer in await self._sent(commands, at_once=False)]

    async def _sent(self, commands: Iterable[tuple[Any, ...]], *, at_once: bool) -> list[Any]:
        with translated():
            pipeline = self._redis.pipeline(transaction=at_once)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)


def _checked(answer: Any) -> Any:
    if isinstance(answer, ResponseError):
        raise store_error(answer) from answer
    return answer


def _is_missing(answer: Any) -> bool:
    """Whether there is no group, or no stream to have one."""
    return isinstance(answer, ResponseError) and isinstance(store_error(answer), GroupMissingError)


def _spelled(wanted: str) -> list[bytes]:
    """Give *wanted* as it may stand in a field and in JSON."""
    texts = (wanted, json.dumps(wanted)[1:-1], json.dumps(wanted, ensure_ascii=False)[1:-1])
    return list(dict.fromkeys(map(raw_of, texts)))


def _held(row: Sequence[Any]) -> Held:
    entry_id, owner, idle_ms, deliveries = row
    return Held(entry_id.decode(), printable(name_of(owner)), int(idle_ms), int(deliveries))
