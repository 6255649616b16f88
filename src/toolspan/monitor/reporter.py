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
"""How often the group is measured. A dead reporter's turn ends after twice that."""


class Reporter:
    """Measures while it is elected; otherwise it has nothing to report, so that no figure stands there twice.

    Whoever is elected also has the *retention* of the dead letters looked after, if that is given.
    """

    def __init__(
        self, inspector: Inspector, probe: Probe, *, me: str, lease_ms: int, retention: Retention | None = None
    ) -> None:
        self._inspector = inspector
        self._probe = probe
        self._me = me
        self._lease_ms = lease_ms
        self._retention = retention
        self._elected = False
        self._snapshot: GroupSnapshot | None = None
        self._measured = float("-inf")
        probe.observe_group(self.latest)

    async def run(self, *, until: asyncio.Event) -> None:
        """Measure again and again until *until* is set, then let somebody else be elected."""
        await every(SECONDS, self.sweep, step="report", until=until, probe=self._probe)
        try:
            await self._inspector.resign(self._me)
        except StoreError as exc:
            self._probe.outage("report", exc)

    async def sweep(self) -> None:
        """Measure the group once, if we are elected or can be."""
        # Whatever is exported meanwhile has the figures of the last round, until those of this one are known.
        self._snapshot, self._measured = await self._measure(), time.monotonic()
        if self._elected and self._retention is not None:
            await self._retention.sweep()

    async def _measure(self) -> GroupSnapshot | None:
        self._elected = await self._inspector.elect(self._me, ttl_ms=int(SECONDS * 2000))
        if not self._elected:
            return None
        try:
            return await self._inspector.snapshot(lease_ms=self._lease_ms)
        except GroupMissingError:
            return None

    def latest(self) -> GroupSnapshot | None:
        """Give the last figures; None while they are not ours to tell, or old."""
        return self._snapshot if time.monotonic() - self._measured < SECONDS * 2 else None
