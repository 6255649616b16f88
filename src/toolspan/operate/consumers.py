"""Who works: the registered workers, and whoever else is in the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from toolspan.errors import GroupMissingError
from toolspan.store import ControlStore, EntryReader, Inspector
from toolspan.store.names import printable
from toolspan.store.steps import PARKED

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.store import Connection, Registered, WorkerInfo

State: TypeAlias = Literal["live", "draining", "silent", "unregistered", "unreadable", "parked"]
"""What a consumer is: `draining` while it finishes what it holds, to go then; `unregistered` without a registration,
`unreadable` with one that is none of ours, `parked` for the name that holds the parked calls, behind which there is no
worker."""


@dataclass(frozen=True, slots=True)
class Consumer:
    """One name. *pending* is None where the group does not know it, *silent_ms* where it never beat.

    *worker* is its registration, where there is one that can be read.
    """

    name: str
    state: State
    pending: int | None
    silent_ms: int | None
    worker: WorkerInfo | None


async def consumers(connection: Connection, settings: Settings) -> list[Consumer]:
    """List the registered workers and the consumers of the group, by name.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    registered = {one.name: one for one in await Inspector(connection, settings.keys).registrations()}
    draining = (await ControlStore(connection, settings.keys).read()).draining
    try:
        holders = await EntryReader(connection, settings.keys).holders()
    except GroupMissingError:
        holders = {}
    return [
        _consumer(name, holders.get(name), registered.get(name), draining=printable(name) in draining)
        for name in sorted({*registered, *holders})
    ]


def _consumer(name: str, pending: int | None, registered: Registered | None, *, draining: bool) -> Consumer:
    silent_ms = registered.silent_ms if registered else None
    worker = registered.worker if registered else None
    return Consumer(printable(name), _state(name, registered, draining=draining), pending, silent_ms, worker)


def _state(name: str, registered: Registered | None, *, draining: bool) -> State:
    if name == PARKED:
        return "parked"
    if registered is None or not registered.found:
        return "unregistered"
    if registered.worker is None:
        return "unreadable"
    if not registered.worker.live:
        return "silent"
    return "draining" if draining else "live"
