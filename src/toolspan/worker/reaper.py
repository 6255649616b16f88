"""Removes consumers that are dead and hold nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.store.names import printable
from toolspan.store.steps import PARKED

if TYPE_CHECKING:
    from toolspan.store.inspect import Inspector
    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.link import Link


class Reaper:
    """Deletes consumers that hold nothing and have not sent a heartbeat for long."""

    def __init__(
        self,
        store: StreamStore,
        inspector: Inspector,
        link: Link,
        probe: Probe,
        *,
        silent_ms: int,
        lease_ms: int,
    ) -> None:
        self._store = store
        self._inspector = inspector
        self._link = link
        self._probe = probe
        self._silent_ms = silent_ms
        self._lease_ms = lease_ms

    async def sweep(self) -> bool:
        """Reap every dead consumer found right now, and forget what calls that are gone left on record.

        False if nothing was asked, for the connection is young.
        """
        if self._link.unbroken < self._lease_ms / 2000:
            return False
        for name in await self._inspector.silent_consumers(self._silent_ms):
            # The store looks again before deleting: the consumer may have come back.
            if name == self._store.me or not await self._store.reap(name, silent_ms=self._silent_ms):
                continue
            if name != PARKED:
                # Nobody was ever behind that one: it is there as long as calls are parked.
                self._probe.reaped(printable(name))
        await self._store.forget_gone()
        return True
