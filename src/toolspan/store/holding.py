"""How attempts begin, and how deliveries end: settled, parked or quarantined, one atomic step each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from toolspan.model import Lost, id_order
from toolspan.store.connection import answer_of, translated
from toolspan.store.names import raw_of
from toolspan.store.scripts import Script
from toolspan.store.steps import Buried, Parked, Quarantined, Settled, Started

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.codec import Form
    from toolspan.keys import Keys
    from toolspan.store.connection import Connection
    from toolspan.store.steps import Burial, Settlement, Start

_SETTLED: Final = tuple(Settled)
_ZERO: Final = ord("0")
_STARTS_AT_ONCE: Final = 1_000
"""Lua cannot hand many more to one command."""


class Holding:
    """What the consumer *me* does with what it holds. Every method raises StoreError, and nothing else of Redis."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        *,
        me: str,
        registration_ttl_ms: int,
        reply_ttl_seconds: int,
        reply_maxlen: int,
        wait_replicas: int,
    ) -> None:
        self.me = me
        self._keys = keys
        self._redis = connection.commands
        self._settler = connection.private()
        self._registration_ttl_ms = registration_ttl_ms
        self._reply_ttl_seconds = reply_ttl_seconds
        self._reply_maxlen = reply_maxlen
        self._start = Script("start", replicas=wait_replicas)
        self._settle = Script("settle")
        self._park = Script("park")
        self._quarantine = Script("quarantine")

    async def start(self, starts: Sequence[Start]) -> list[Started]:
        """Begin attempts, and tell of each what became of it."""
        answers: list[Started] = []
        for begin in range(0, len(starts), _STARTS_AT_ONCE):
            page = starts[begin : begin + _STARTS_AT_ONCE]
            first, last = _range([one.entry_id for one in page])
            with translated():
                answer = await self._start.run(
                    self._redis,
                    stream=self._keys.calls,
                    attempts=self._keys.attempts,
                    group=self._keys.group,
                    consumer=self.me,
                    first=first,
                    last=last,
                    starts=[part for s in page for part in (s.entry_id, s.held, s.attempt, s.token)],
                )
            answers += map(Started, answer)
        return answers

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
            parts += (attempt, flags, reply, *form.parts)
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
            found = await answer_of(
                self._redis.execute_command("HMGET", raw_of(self._keys.worker(consumer)), "host", "pid", "version")
            )
        host, pid, release = (None if part is None else part.decode(errors="replace") for part in found)
        return Lost(consumer, host, pid, release)


def _range(entry_ids: list[str]) -> tuple[str, str]:
    """Give the smallest and the greatest id."""
    candidates: list[str] = []
    for length in set(map(len, entry_ids)):
        alike = [entry_id for entry_id in entry_ids if len(entry_id) == length]
        # Ids of one shape order as text; the shapes in a batch are few.
        one_shape = len({entry_id.find("-") for entry_id in alike}) == 1
        candidates += (min(alike), max(alike)) if one_shape else alike
    return min(candidates, key=id_order), max(candidates, key=id_order)
