"""Measures the group's gauges, in the one process that is elected for it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from toolspan.errors import GroupMissingError, StoreError
from toolspan.periodic import every

if TYPE_CHECKING:
    from toolspan.model import GroupSnapshot
    from toolspan.monitor.retention import Retention
    from toolspan.store import Inspector
    from toolspan.telemetry.probe import Probe

SECONDS: Final = 5.0
"""How often the group is measured."""

TURN_SECONDS: Final = 9.0
"""How long a turn lasts that is not renewed: with a round of the others, which may be a little late, less than 15 s."""


class Reporter:
    """Measures while it is elected; otherwise it has nothing to report, so that no figure stands there twice.

    The *retention* of the dead letters, if that is given, is looked after once in a while, elected or not: a process
    that reports may be none that may delete. Nor may a *deputy* read dead letters: it stands in while nobody else is
    there to report, and tells all the rest.
    """

    def __init__(
        self,
        inspector: Inspector,
        probe: Probe,
        *,
        me: str,
        lease_ms: int,
        retention: Retention | None = None,
        deputy: bool = False,
    ) -> None:
        self._inspector = inspector
        self._probe = probe
        self._me = f"~{me}" if deputy else me
        self._deputy = deputy
        self._lease_ms = lease_ms
        self._retention = retention
        self._until = float("-inf")
        """Until when nobody else can be elected, by our clock."""
        self._snapshot: GroupSnapshot | None = None
        self._measured = 0.0
        probe.observe_group(self.latest, self.age)

    async def run(self, *, until: asyncio.Event) -> None:
        """Measure again and again until *until* is set, then let somebody else be elected."""
        await every(SECONDS, self.sweep, step="report", until=until, probe=self._probe)
        # From here on it is not ours to tell: whoever is elected next measures anew.
        self._snapshot = None
        try:
            await self._inspector.resign(self._me)
        except StoreError as exc:
            self._probe.outage("report", exc)

    async def sweep(self) -> None:
        """Measure the group once, if we are elected or can be."""
        if self._retention is not None:
            await self._retention.sweep()
        asked = time.monotonic()
        elected = await self._inspector.elect(self._me, ttl_ms=int(TURN_SECONDS * 1000))
        # Whatever is exported meanwhile has the figures of the last round, until those of this one are known.
        snapshot = await self._measure() if elected else None
        unheard = self.latest() is None
        self._until = asked + TURN_SECONDS if elected else asked
        self._snapshot, self._measured = snapshot, time.monotonic()
        if unheard and snapshot is not None:
            # Nobody has reported since the one before us: this fills the gap before the next export is due.
            await asyncio.to_thread(self._probe.export_group)

    async def _measure(self) -> GroupSnapshot | None:
        try:
            return await self._inspector.snapshot(lease_ms=self._lease_ms, letters=not self._deputy)
        except GroupMissingError:
            return None

    def latest(self) -> GroupSnapshot | None:
        """Give the last figures; None while they are not ours to tell: somebody else may be elected by now."""
        return self._snapshot if time.monotonic() < self._until else None

    def age(self) -> float | None:
        """Seconds since those figures were measured; None while there are none."""
        return None if self.latest() is None else time.monotonic() - self._measured
