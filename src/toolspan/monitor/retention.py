"""Deletes dead letters that are past the retention period."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from toolspan.errors import StoreError
from toolspan.store import DeadLetterStore

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.telemetry.probe import Probe

SECONDS: Final = 60.0
"""How long after a purge the next one is due."""

WHO: Final = "retention"
_DAY_MS: Final = 86_400_000
_STEPS: Final = 100
"""How many steps a purge has at most: what is left then is the next one's."""


class Retention:
    """Purges once in a while, as long as it is asked to. Keeps everything if *days* is None."""

    def __init__(self, store: DeadLetterStore, probe: Probe, *, days: int | None) -> None:
        self._store = store
        self._probe = probe
        self._days = days
        self._due = float("-inf")

    @classmethod
    def of(cls, connection: Connection, settings: Settings, probe: Probe) -> Self:
        """Do what *settings* say."""
        return cls(DeadLetterStore(connection, settings.keys), probe, days=settings.dlq_retention_days)

    async def sweep(self) -> None:
        """Purge what is too old, if that is due; what Redis fails is tried again when it is due next."""
        if self._days is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + SECONDS
        try:
            await self._purge(self._days)
            self._probe.recovered(WHO)
        except StoreError as exc:
            # Figures are told all the same: a purge that fails is no reason to report nothing.
            self._probe.outage(WHO, exc)

    async def _purge(self, days: int) -> None:
        last = await self._store.last_id(before_ms=await self._store.now_ms() - days * _DAY_MS)
        if last is None:
            return
        why = f"TOOLSPAN_DLQ_RETENTION_DAYS is {days}"
        count, steps = 0, 0
        steps_done = self._store.purge(through=last, who=WHO, why=why, matching=f"older_than={days}d")
        async for count in steps_done:  # noqa: B007 - the last one counts
            steps += 1
            if steps == _STEPS:
                break
        self._probe.purged(count, up_to=last, who=WHO)
