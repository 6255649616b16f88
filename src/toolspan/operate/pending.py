"""What is pending: which calls, with whom, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from toolspan.model import id_order
from toolspan.operate.calls import about, codec_of
from toolspan.store import EntryReader
from toolspan.store.steps import PARKED

if TYPE_CHECKING:
    from toolspan.codec import Codec
    from toolspan.settings import Settings
    from toolspan.store import Body, Connection, Held

_PAGE: Final = 1_000


@dataclass(frozen=True, slots=True)
class PendingCall:
    """One pending entry. *call_id* and *tool* are None where they cannot be read.

    *idle* is how long ago in seconds it was handed over or renewed; *runs_for* how long its attempt has been running,
    None where that is not on record; *deadline_left* is negative once nobody waits. *deleted* means that somebody has
    deleted its body.
    """

    entry_id: str
    call_id: str | None
    tool: str | None
    consumer: str
    attempt: int
    idle: float
    runs_for: float | None
    deadline_left: float | None
    deleted: bool


@dataclass(frozen=True, slots=True)
class Pending:
    """The oldest pending entries, by their ids; *more* says whether there are more than were asked for."""

    calls: list[PendingCall]
    more: bool


async def pending(
    connection: Connection, settings: Settings, *, older_ms: int = 0, parked: bool = False, limit: int
) -> Pending:
    """List the *limit* oldest pending calls that were not renewed for *older_ms*; parked ones only if *parked*.

    Reads of each consumer what it needs, a bounded page at a time.

    Raises:
        GroupMissingError: if there is no group.
        StoreError: if Redis cannot be asked.
    """
    entries = EntryReader(connection, settings.keys)
    found: list[Held] = []
    for owner, count in (await entries.holders()).items():
        if count and (parked or owner != PARKED):
            # The oldest of all are among the oldest of each.
            found += await _oldest_of(entries, owner, older_ms=older_ms, count=limit + 1)
    found.sort(key=lambda held: id_order(held.entry_id))
    shown = found[:limit]
    bodies = await entries.bodies([held.entry_id for held in shown])
    now_ms = await entries.now_ms()
    codec = codec_of(settings)
    calls = [_call(codec, held, body, now_ms) for held, body in zip(shown, bodies, strict=True)]
    return Pending(calls, more=len(found) > limit)


async def _oldest_of(entries: EntryReader, owner: str, *, older_ms: int, count: int) -> list[Held]:
    """Give the first entries of *owner* that were not renewed for so long.

    They are picked here: Redis would go through all that a consumer holds in one go, and answer nobody meanwhile.
    """
    found: list[Held] = []
    size = _PAGE if older_ms else min(count, _PAGE)
    after: str | None = None
    while True:
        page = await entries.held_by(owner, after=after, count=size)
        found += (held for held in page if held.idle_ms >= older_ms)
        if len(page) < size or len(found) >= count:
            return found[:count]
        after = page[-1].entry_id


def _call(codec: Codec, held: Held, body: Body, now_ms: int) -> PendingCall:
    call = about(codec, held.entry_id, body.fields) if body.fields is not None else None
    last = body.attempts[-1] if body.attempts else None
    runs = last is not None and last.end_ms is None and (last.consumer, last.attempt) == (held.consumer, held.attempt)
    return PendingCall(
        entry_id=held.entry_id,
        call_id=call.call_id if call else None,
        tool=call.tool if call else None,
        consumer=held.consumer,
        attempt=held.attempt,
        idle=held.idle_ms / 1000,
        runs_for=max(0, now_ms - last.start_ms) / 1000 if last and runs else None,
        deadline_left=(call.deadline_ms - now_ms) / 1000 if call and call.deadline_ms is not None else None,
        deleted=call is None,
    )
