"""The hot path: what workers do to the stream of tool calls, one atomic step each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import ResponseError

from toolspan.codec import Form, decode_attempts
from toolspan.model import SUSPECT_FROM, Delivery, LossReason, Lost, Origin, origin_after, value
from toolspan.store.clock import RedisClock, redis_ms
from toolspan.store.connection import translated
from toolspan.store.names import name_of, printable, raw_of
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

PARKED: Final = "~parked"
"""The consumer that holds parked calls."""


class Started(IntEnum):
    """What a start answers for a delivery. MARKED: another start of it is on record, and it may never run again."""

    NOT_OURS = 0
    DONE = 1
    MARKED = 2


class Settled(IntEnum):
    """What settling answers for a delivery. UNWRITABLE: its reply. UNDELIVERED: a group made anew will hand it out."""

    NOT_OURS = 0
    DONE = 1
    UNWRITABLE = 2
    UNDELIVERED = 3


class Parked(IntEnum):
    """What holding a delivery back answers. DUE: it is parked, but its tool is not paused any more."""

    NOT_OURS = 0
    DONE = 1
    DUE = 2


class Quarantined(IntEnum):
    """What a quarantine answers for a delivery. UNWRITABLE: the dead letters. UNANSWERED: done, but for the reply."""

    NOT_OURS = 0
    DONE = 1
    UNWRITABLE = 2
    UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of an idempotency record: *reply* as it is to stand there, or only to be told if not *kept*."""

    digest: str
    kept: bool
    reply: bytes


@dataclass(frozen=True, slots=True)
class Buried:
    """What became of a quarantine, and the id of the dead letter; empty where we know of none.

    *added* is what the script has put into the dead letter besides: times, and the list of attempts.
    """

    status: Quarantined
    letter_id: str = ""
    added: Mapping[str, str] = field(default_factory=dict)


@value
class Settlement:
    """One call to be settled: the fence, and the reply as it goes on the wire (nothing for fire and forget)."""

    entry_id: str
    attempt: int
    recorded: bool
    reply_to: str | None
    form: Form
    values: Sequence[str | bytes]
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """One attempt to be begun. *held* is the count that Redis holds; *token* marks an at-most-once start."""

    entry_id: str
    held: int
    attempt: int
    token: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """One entry taken over. *marked*: it was begun under at most once. *deliveries*: the count it keeps until begun."""

    delivery: Delivery
    marked: bool


@dataclass(frozen=True, slots=True)
class Claims:
    """What one claim gave: *more* is where to go on, None when nothing is left.

    *gone* are the ids of entries without a body, each with its last attempt.
    """

    claimed: list[Claimed]
    gone: list[tuple[str, int]]
    more: str | None = None


@dataclass(frozen=True, slots=True)
class Burial:
    """What is written when an entry is quarantined: the dead letter's own fields, and the caller's reply if any."""

    entry_id: str
    attempt: int
    reason: str
    error_type: str
    about: Sequence[str | bytes]
    reply_to: str | None = None
    reply: Sequence[str | bytes] = ()
    ending: Ending | None = None


class StreamStore:
    """What one consumer of the group may do. Every method raises StoreError, and nothing else of Redis."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        *,
        me: str,
        block_ms: int,
        registration_ttl_ms: int,
        reply_ttl_seconds: int,
        reply_maxlen: int,
        wait_replicas: int = 0,
    ) -> None:
        self.me = me
        self.clock = RedisClock()
        self._keys = keys
        self._redis = connection.commands
        self._reader = connection.private(block_ms=block_ms)
        self._settler = connection.private()
        self._block_ms = block_ms
        self._registration_ttl_ms = registration_ttl_ms
        self._reply_ttl_seconds = reply_ttl_seconds
        self._reply_maxlen = reply_maxlen
        self._start = Script("start", replicas=wait_replicas)
        self._settle = Script("settle")
        self._park = Script("park")
        self._claim = Script("claim")
        self._claim_due = Script("claim_due")
        self._recover = Script("recover")
        self._restore = Script("restore")
        self._tidy = Script("tidy")
        self._unparked_after = "-"
        self._records_cursor = 0
        self._quarantine = Script("quarantine")
        self._reap = Script("reap")

    async def ensure_group(self) -> bool:
        """Create the group, and the stream with it, if it is missing; tell whether it was."""
        with translated():
            try:
                await _answer(self._redis.execute_command(
                    "XGROUP CREATE", self._keys.calls, self._keys.group, "0", "MKSTREAM"
                ))  # fmt: skip
            except ResponseError as exc:
                if str(exc).startswith("BUSYGROUP"):
                    return False
                raise
        return True

    async def synchronise(self) -> None:
        """Set our estimate of Redis' clock."""
        with translated():
            sent_ns = time.monotonic_ns()
            now_ms = await redis_ms(self._redis)
        self.clock.set(now_ms, asked_ns=sent_ns, answered_ns=time.monotonic_ns())

    # ── taking in ──────────────────────────────────────────────────────────────────────────────────────────────

    async def read_new(self, count: int, *, wait: bool = True) -> list[Delivery]:
        """Take up to *count* entries that nobody was given yet; *wait* for the first as long as a block lasts.

        Must not be cancelled: Redis may have handed us entries already.
        """
        with translated():
            answer = await _answer(self._reader.execute_command(
                "XREADGROUP", "GROUP", self._keys.group, self.me, "COUNT", count,
                "BLOCK", self._block_ms if wait else _NO_BLOCK_MS,
                "STREAMS", self._keys.calls, ">",
            ))  # fmt: skip
        if not answer:
            return []
        read_ns = time.monotonic_ns()
        read_ms = self.clock.at(read_ns)
        deliveries = []
        for raw_id, fields in answer[0][1]:
            entry_id = raw_id.decode()
            # The body of an entry that was deleted between append and read is nil.
            deliveries.append(
                Delivery(entry_id, fields or [], 1, "first", read_ns, read_ms, int(entry_id.partition("-")[0]))
            )
        return deliveries

    async def look(self) -> None:
        """Make sure that we may read, before we say that we serve; nothing is taken."""
        with translated():
            await _answer(self._redis.execute_command(
                "XREADGROUP", "GROUP", self._keys.group, self.me, "COUNT", 1, "STREAMS", self._keys.calls, "0"
            ))  # fmt: skip

    async def owners(self) -> list[str]:
        """Name every consumer that holds something; we may hold what no run of ours knows of."""
        with translated():
            answer = await _answer(self._redis.execute_command("XINFO CONSUMERS", self._keys.calls, self._keys.group))
        names = ((name_of(info[1]), info[3]) for info in answer)
        return [name for name, pending in names if pending and name != PARKED]

    async def claim(
        self, owner: str, *, lease_ms: int, count: int, suspects: int, max_attempts: int, after: str | None = None
    ) -> Claims:
        """Take over up to *count* orphans of *owner*, *suspects* of them at most suspects.

        Where there may be more, all workers are called to take their part.
        """
        with translated():
            last, loss, claimed, gone = await self._claim.run(
                self._redis,
                stream=self._keys.calls,
                attempts=self._keys.attempts,
                workers=self._keys.workers,
                events=self._keys.events,
                group=self._keys.group,
                consumer=self.me,
                owner=raw_of(owner),
                lease_ms=lease_ms,
                count=count,
                after=f"({after}" if after else "-",
                suspects=suspects,
                max_attempts=max_attempts,
                suspect_from=SUSPECT_FROM,
            )
        return Claims(
            self._claimed(claimed, "reclaim", owner=printable(owner), loss=cast("LossReason", loss.decode())),
            [(entry_id.decode(), attempt) for entry_id, attempt in gone],
            last.decode() or None,
        )

    async def claim_due(self, *, count: int, suspects: int, max_attempts: int, skipped: Iterable[str] = ()) -> Claims:
        """Take up to *count* parked calls that are due, but none of *skipped*, and none whose tool is paused.

        Suspects that have to wait stand in nobody's way, up to a bound.
        """
        due: list[Claimed] = []
        gone: list[tuple[str, int]] = []
        offset: bytes | int = 0
        for _ in range(_DUE_PAGES):
            with translated():
                offset, suspects, claimed, bodiless = await self._claim_due.run(
                    self._redis,
                    stream=self._keys.calls,
                    parked=self._keys.parked,
                    attempts=self._keys.attempts,
                    events=self._keys.events,
                    control=self._keys.control,
                    group=self._keys.group,
                    consumer=self.me,
                    count=count - len(due),
                    suspects=suspects,
                    max_attempts=max_attempts,
                    suspect_from=SUSPECT_FROM,
                    offset=offset,
                    page=max(count, _DUE_PAGE),
                    skipped=list(skipped),
                )
            due += self._claimed(claimed, "retry")
            gone += ((entry_id.decode(), attempt) for entry_id, attempt in bodiless)
            if offset == b"" or len(due) == count:
                break
        for one in due:
            one.delivery.origin = _origin_of_due(one.delivery)
        return Claims(due, gone)

    async def recover(self, known: Iterable[str]) -> list[Claimed]:
        """Find what we hold without knowing it: hand-overs whose answer was lost on the way."""
        found: list[Claimed] = []
        after: str | None = None
        known = list(known)
        while True:
            with translated():
                last, unknown = await self._recover.run(
                    self._redis,
                    stream=self._keys.calls,
                    attempts=self._keys.attempts,
                    group=self._keys.group,
                    consumer=self.me,
                    after=f"({after}" if after else "-",
                    count=_PAGE,
                    known=known,
                )
            found += (self._recovered(claimed) for claimed in self._claimed(unknown, "reclaim"))
            if not last:
                return found
            after = last.decode()

    def _claimed(
        self, raw: list[list[Any]], origin: Origin, *, owner: str | None = None, loss: LossReason | None = None
    ) -> list[Claimed]:
        read_ns = time.monotonic_ns()
        read_ms = self.clock.at(read_ns)
        claims = []
        for entry_id, deliveries, fields, attempts, losses, mark, since_ms in raw:
            delivery = Delivery(
                entry_id.decode(),
                fields,
                deliveries,
                origin,
                read_ns,
                read_ms,
                int(since_ms),
                counted=False,
                losses=losses,
                history=decode_attempts(attempts),
                owner=owner,
                loss=loss,
            )
            claims.append(Claimed(delivery, mark is not None))
        return claims

    def _recovered(self, claim: Claimed) -> Claimed:
        """Tell a lost answer to a read or a start, which counted the attempt, from one to a claim, which did not."""
        delivery = claim.delivery
        last = delivery.previous
        begun = last is not None and last.consumer == self.me and last.end_ms is None
        delivery.counted = begun or (last is None and delivery.attempt == 1)
        if last is not None and begun:
            delivery.history = delivery.history[:-1]
            delivery.ready_ms = last.start_ms
        previous = delivery.previous
        if previous is not None and previous.loss is not None:
            # Nobody has told of it: whoever does begins an attempt behind it first.
            delivery.owner, delivery.loss = previous.consumer, previous.loss
            delivery.ready_ms = previous.end_ms or delivery.ready_ms
        elif delivery.counted and delivery.attempt == 1:
            delivery.origin = "first"
            delivery.ready_ms = int(delivery.entry_id.partition("-")[0])
        else:
            delivery.origin = _origin_of_due(delivery)
        return claim

    # ── ending ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, starts: Sequence[Start]) -> list[Started]:
        """Begin attempts, and tell of each what became of it."""
        with translated():
            answer = await self._start.run(
                self._redis,
                stream=self._keys.calls,
                attempts=self._keys.attempts,
                group=self._keys.group,
                consumer=self.me,
                starts=[part for s in starts for part in (s.entry_id, s.held, s.attempt, s.token)],
            )
        return [Started(status) for status in answer]

    async def settle(self, batch: int, settlements: Sequence[Settlement], *, held: int) -> list[Settled]:
        """Write replies and acknowledge, and tell of each call what became of it.

        *held* is how many deliveries we hold altogether. Asking again with the same *batch* gives the same answer.
        """
        others: dict[str, int] = {}
        kinds: dict[tuple[int, bool, bool | None, str | None, Form], bytes] = {}
        entries: list[Any] = []
        for one in settlements:
            # What many have in common is packed and read once: an ordinary batch is of one kind for each gateway.
            ending = one.ending
            kind = (one.attempt, one.recorded, None if ending is None else ending.kept, one.reply_to, one.form)
            number = kinds.get(kind)
            if number is None:
                number = kinds[kind] = b"%d" % (len(kinds) + 1)
            entries += (one.entry_id, number, *one.values)
            if ending is not None:
                entries += (others.setdefault(self._keys.once(ending.digest), len(others) + 1), ending.reply)
        parts: list[Any] = []
        for attempt, recorded, kept, reply_to, form in kinds:
            flags = f"{recorded:d}" if kept is None else f"{recorded:d}{kept:d}"
            reply = 0 if reply_to is None else others.setdefault(reply_to, len(others) + 1)
            fields = (field or "" for field in form.fields)
            parts += (attempt, flags, reply, len(form.fields), *fields, len(form.blanks), *form.blanks)
        first, last = _range([one.entry_id for one in settlements])
        with translated():
            answer: bytes = await self._settle.run(
                self._settler,
                stream=self._keys.calls,
                worker=self._keys.worker(self.me),
                attempts=self._keys.attempts,
                others=list(others),
                group=self._keys.group,
                consumer=self.me,
                batch=batch,
                held=max(held, 1),
                first=first,
                last=last,
                worker_ttl_ms=self._registration_ttl_ms,
                reply_ttl=self._reply_ttl_seconds,
                reply_maxlen=self._reply_maxlen,
                kinds=len(kinds),
                parts=parts + entries,
            )
        return [_SETTLED[digit - _ZERO] for digit in answer]

    async def park(self, entry_id: str, attempt: int, *, count: int, delay_ms: int, reason: str) -> bool:
        """Park a delivery until its next attempt, *count* attempts counting from now on; False: no longer ours."""
        parked = await self._parked(entry_id, attempt, count=count, delay_ms=delay_ms, reason=reason)
        return parked is not Parked.NOT_OURS

    async def hold_back(
        self, entry_id: str, attempt: int, *, count: int, tool: str, at_most_ms: int | None = None
    ) -> Parked:
        """Park a delivery of a *tool* that is paused and give it back; it is looked at again within *at_most_ms*."""
        most = "" if at_most_ms is None else at_most_ms
        return await self._parked(entry_id, attempt, count=count, delay_ms=most, reason="released", paused=tool)

    async def _parked(
        self, entry_id: str, attempt: int, *, count: int, delay_ms: int | str, reason: str, paused: str = ""
    ) -> Parked:
        with translated():
            return Parked(
                await self._park.run(
                    self._redis,
                    stream=self._keys.calls,
                    parked=self._keys.parked,
                    attempts=self._keys.attempts,
                    events=self._keys.events,
                    control=self._keys.control,
                    group=self._keys.group,
                    consumer=self.me,
                    entry_id=entry_id,
                    attempt=attempt,
                    count=count,
                    delay_ms=delay_ms,
                    reason=reason,
                    paused=paused,
                )
            )

    async def quarantine(self, burial: Burial) -> Buried:
        """Move an entry to the dead letters, and tell what became of it."""
        ending = burial.ending
        with translated():
            status, *told = await self._quarantine.run(
                self._redis,
                stream=self._keys.calls,
                dead_letters=self._keys.dead_letters,
                attempts=self._keys.attempts,
                events=self._keys.events,
                reply=burial.reply_to or self._keys.calls,
                record=self._keys.once(ending.digest) if ending else self._keys.calls,
                group=self._keys.group,
                consumer=self.me,
                entry_id=burial.entry_id,
                attempt=burial.attempt,
                reason=burial.reason,
                error_type=burial.error_type,
                reply_ttl=self._reply_ttl_seconds,
                reply_maxlen=self._reply_maxlen,
                kept="1" if ending and ending.kept else "0",
                remembered=ending.reply if ending else "",
                about=len(burial.about),
                values=[*burial.about, *(burial.reply if burial.reply_to else ())],
            )
        texts = [part.decode(errors="replace") if isinstance(part, bytes) else str(part) for part in told]
        added = dict(zip(texts[1::2], texts[2::2], strict=True))
        return Buried(Quarantined(status), texts[0] if texts else "", added)

    async def registered(self, consumer: str) -> Lost:
        """Tell what is on record of a worker that was lost; its registration outlives it for a while."""
        with translated():
            found = await _answer(
                self._redis.execute_command("HMGET", raw_of(self._keys.worker(consumer)), "host", "pid", "version")
            )
        host, pid, release = (None if part is None else part.decode(errors="replace") for part in found)
        return Lost(consumer, host, pid, release)

    # ── keeping house ──────────────────────────────────────────────────────────────────────────────────────────

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


_NO_BLOCK_MS: Final = 1
"""None at all would be for ever."""

_PAGE: Final = 1_000
_DUE_PAGE: Final = 100
_DUE_PAGES: Final = 20
_RESTORE_PAGES: Final = 100
_TIDY_PAGE: Final = 100
_TIDY_PAGES: Final = 20
_SETTLED: Final = tuple(Settled)
_ZERO: Final = ord("0")


def _origin_of_due(delivery: Delivery) -> Origin:
    """Tell a retry from a call that was given back, which stays what it was."""
    if delivery.attempt == 0:
        return "first"
    return origin_after(delivery.history) if delivery.history else "retry"


def _range(entry_ids: list[str]) -> tuple[str, str]:
    """Give the smallest and the greatest id."""
    candidates: list[str] = []
    for length in set(map(len, entry_ids)):
        alike = [entry_id for entry_id in entry_ids if len(entry_id) == length]
        # Ids of one shape order as text; the shapes in a batch are few.
        one_shape = len({entry_id.find("-") for entry_id in alike}) == 1
        candidates += (min(alike), max(alike)) if one_shape else alike
    return min(candidates, key=_order), max(candidates, key=_order)


def _order(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)


async def _answer(command: Any) -> Any:
    """Await a command whose answer redis-py types as a union over protocols and clients."""
    return await command
