"""What the group looks like now, and whether somebody should look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolspan.errors import GroupMissingError
from toolspan.model import GroupSnapshot
from toolspan.operate.consumers import consumers
from toolspan.store import ControlStore, EntryReader, Inspector
from toolspan.store.steps import PARKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.operate.consumers import Consumer
    from toolspan.settings import Settings
    from toolspan.store import Connection


@dataclass(frozen=True, slots=True)
class Paused:
    """A tool whose calls wait: for how many seconds, None where that is not on record, by whom and why."""

    tool: str
    since: float | None
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Status:
    """The figures of the group. Ages are seconds; None where something cannot be known, or there is nothing.

    The age of a call counts from its append, wherever it is now. *room* is how many more calls the live workers may
    take, as their last heartbeats tell it. *attention* says why somebody should look; empty if nobody need.
    """

    group: bool
    undelivered: int | None
    pending: int | None
    parked: int | None
    oldest_undelivered_age: float | None
    oldest_pending_age: float | None
    oldest_parked_age: float | None
    live_workers: int
    draining_workers: int
    silent_workers: int
    unreadable: list[str]
    room: int
    dead_letters: int | None
    oldest_dead_letter_age: float | None
    paused: list[Paused]
    attention: list[str]


async def status(connection: Connection, settings: Settings) -> Status:
    """Measure the group.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    entries = EntryReader(connection, settings.keys)
    known = await consumers(connection, settings)
    now_ms = await entries.now_ms()
    stopped = await paused(connection, settings)
    try:
        measured = await Inspector(connection, settings.keys).snapshot(lease_ms=settings.lease_ms)
        held = {name: pending for name, pending in (await entries.holders()).items() if pending}
        oldest_held = await entries.oldest_held(name for name in held if name != PARKED)
        oldest_parked = await entries.oldest_held(name for name in held if name == PARKED)
    except GroupMissingError:
        return await _without_group(entries, known, stopped, now_ms)
    return _status(
        known,
        measured,
        stopped,
        oldest_pending_age=_oldest(now_ms, oldest_held),
        oldest_parked_age=_oldest(now_ms, oldest_parked),
    )


async def paused(connection: Connection, settings: Settings) -> list[Paused]:
    """List the tools that are paused, by name.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    control = ControlStore(connection, settings.keys)
    orders = (await control.read()).paused
    now_ms = await control.now_ms()
    return [
        Paused(tool, (now_ms - order.at_ms) / 1000 if order.at_ms else None, order.who, order.why)
        for tool, order in sorted(orders.items())
    ]


async def _without_group(entries: EntryReader, known: Sequence[Consumer], stopped: list[Paused], now_ms: int) -> Status:
    waiting, first = await entries.waiting()
    letters, letter = await entries.dead_letters()
    measured = GroupSnapshot(
        length=waiting,
        pending=0,
        parked=0,
        undelivered=waiting,
        consumers=0,
        live_workers=None,
        draining_workers=None,
        silent_workers=None,
        pending_by_attempt=None,
        oldest_undelivered_age=_oldest(now_ms, [first] if first else []),
        oldest_pending_age=None,
        dead_letters=letters,
        oldest_dead_letter_age=_oldest(now_ms, [letter] if letter else []),
    )
    return _status(known, measured, stopped, group=False)


def _status(
    known: Sequence[Consumer],
    measured: GroupSnapshot,
    stopped: list[Paused],
    *,
    group: bool = True,
    oldest_pending_age: float | None = None,
    oldest_parked_age: float | None = None,
) -> Status:
    live = [one.worker for one in known if one.state == "live" and one.worker]
    draining = [one.name for one in known if one.state == "draining"]
    silent = [one.name for one in known if one.state == "silent"]
    unreadable = [one.name for one in known if one.state == "unreadable"]
    return Status(
        group=group,
        undelivered=measured.undelivered,
        pending=measured.pending,
        parked=measured.parked,
        oldest_undelivered_age=measured.oldest_undelivered_age,
        oldest_pending_age=oldest_pending_age,
        oldest_parked_age=oldest_parked_age,
        live_workers=len(live),
        draining_workers=len(draining),
        silent_workers=len(silent),
        unreadable=unreadable,
        room=sum(max(0, worker.concurrency - len(worker.running)) for worker in live),
        dead_letters=measured.dead_letters,
        oldest_dead_letter_age=measured.oldest_dead_letter_age,
        paused=stopped,
        attention=_attention(
            measured,
            live=len(live),
            silent=silent,
            unreadable=unreadable,
            paused=[one.tool for one in stopped],
        ),
    )


def _attention(
    measured: GroupSnapshot, *, live: int, silent: Sequence[str], unreadable: Sequence[str], paused: Sequence[str]
) -> list[str]:
    problems = []
    waiting = sum(figure or 0 for figure in (measured.undelivered, measured.pending, measured.parked))
    if waiting and not live:
        problems.append(f"no live worker, and {waiting} calls wait")
    if paused:
        problems.append(f"paused, so that their calls wait: {', '.join(paused)}")
    if silent:
        problems.append(f"{len(silent)} workers are silent")
    if unreadable:
        problems.append(f"{len(unreadable)} registrations cannot be read")
    if None in (measured.undelivered, measured.pending, measured.parked, measured.dead_letters):
        problems.append("some figures cannot be known: something else lies under a key of ours")
    return problems


def _oldest(now_ms: int, entry_ids: Sequence[str]) -> float | None:
    """Give the age in seconds of the oldest of *entry_ids*."""
    appended = [int(entry_id.partition("-")[0]) for entry_id in entry_ids]
    return max(0, now_ms - min(appended)) / 1000 if appended else None
