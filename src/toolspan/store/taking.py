"""How deliveries come to a consumer: read as new, taken over from others, and found again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, cast

from toolspan.codec import decode_attempts
from toolspan.model import SUSPECT_FROM, Attempt, Delivery, LossReason, Origin, origin_after
from toolspan.store.clock import RedisClock
from toolspan.store.connection import answer_of, translated
from toolspan.store.names import name_of, printable, raw_of
from toolspan.store.scripts import Script
from toolspan.store.steps import PARKED, Claimed, Claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_PAGE: Final = 1_000
_DUE_PAGE: Final = 100
_DUE_PAGES: Final = 20


class Taking:
    """What the consumer *me* takes in. Every method raises StoreError, and nothing else of Redis."""

    def __init__(self, connection: Connection, keys: Keys, *, me: str, block_ms: int, wait_replicas: int) -> None:
        self.me = me
        self.clock = RedisClock()
        self._keys = keys
        self._redis = connection.commands
        self._reader = connection.private(block_ms=block_ms)
        self._block_ms = block_ms
        self._claim = Script("claim", replicas=wait_replicas)
        self._claimer = connection.commands if wait_replicas else connection.private()
        self._claim_due = Script("claim_due")
        self._recover = Script("recover")

    async def read_new(self, count: int, *, wait: bool = True) -> list[Delivery]:
        """Take up to *count* entries that nobody was given yet; *wait* for the first as long as a block lasts.

        Must not be cancelled: Redis may have handed us entries already.
        """
        block = ("BLOCK", self._block_ms) if wait else ()
        with translated():
            answer = await answer_of(self._reader.execute_command(
                "XREADGROUP", "GROUP", self._keys.group, self.me, "COUNT", count, *block,
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
            await answer_of(self._redis.execute_command(
                "XREADGROUP", "GROUP", self._keys.group, self.me, "COUNT", 1, "STREAMS", self._keys.calls, "0"
            ))  # fmt: skip

    async def owners(self) -> list[str]:
        """Name every consumer that holds something; we may hold what no run of ours knows of."""
        with translated():
            answer = await answer_of(self._redis.execute_command("XINFO CONSUMERS", self._keys.calls, self._keys.group))
        names = ((name_of(info[1]), info[3]) for info in answer)
        return [name for name, pending in names if pending and name != PARKED]

    async def claim(
        self, owner: str, *, lease_ms: int, count: int, suspects: int, max_attempts: int, after: str | None = None
    ) -> Claims:
        """Take over up to *count* orphans of *owner*, *suspects* of them at most suspects; and begin the others.

        Where there may be more, all workers are called to take their part. Nobody else may claim meanwhile.
        """
        with translated():
            last, loss, now_ms, claimed, gone = await self._claim.run(
                self._claimer,
                stream=self._keys.calls,
                attempts=self._keys.attempts,
                workers=self._keys.workers,
                events=self._keys.events,
                cancels=self._keys.cancel_prefix,
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
            self._orphans(claimed, printable(owner), cast("LossReason", loss.decode()), now_ms),
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

    def _orphans(self, raw: list[list[Any]], owner: str, loss: LossReason, lost_ms: int) -> list[Claimed]:
        """Give what a claim of the orphans of *owner* gave: each lost its attempt just now, if it had one."""
        read_ns = time.monotonic_ns()
        read_ms = self.clock.at(read_ns)
        claims = []
        for entry_id, attempt, begun, fields, losses, mark, since_ms, before, given_up in raw:
            history = decode_attempts(before) if before else []
            if since_ms is not None:
                history.append(Attempt(owner, attempt - begun, since_ms, lost_ms, loss))
            delivery = Delivery(
                entry_id.decode(),
                fields,
                attempt,
                "reclaim",
                read_ns,
                read_ms,
                lost_ms,
                begun == 1,
                losses,
                history,
                owner,
                loss,
            )
            looked_up = None if given_up is None else given_up == 1
            claims.append(Claimed(delivery, mark is not None, delivery.counted, looked_up))
        return claims

    def _claimed(self, raw: list[list[Any]], origin: Origin) -> list[Claimed]:
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


def _origin_of_due(delivery: Delivery) -> Origin:
    """Tell a retry from a call that was given back, which stays what it was."""
    if delivery.attempt == 0:
        return "first"
    return origin_after(delivery.history) if delivery.history else "retry"
