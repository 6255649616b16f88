"""Takes over orphans and due calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from toolspan.store.steps import PARKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.model import Delivery
    from toolspan.store.steps import Claimed, Claims
    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import InFlight
    from toolspan.worker.intake import Intake
    from toolspan.worker.link import Link
    from toolspan.worker.neighbours import Neighbours

_AT_ONCE: Final = 100
"""Entries per claim: enough to be quick, few enough to share with the other workers."""


class Reclaimer:
    """Finds calls whose worker went silent, and parked calls whose time has come."""

    def __init__(
        self,
        store: StreamStore,
        inflight: InFlight,
        intake: Intake,
        *,
        neighbours: Neighbours,
        link: Link,
        probe: Probe,
        lease_ms: int,
        max_attempts: int,
    ) -> None:
        self._store = store
        self._inflight = inflight
        self._intake = intake
        self._neighbours = neighbours
        self._link = link
        self._probe = probe
        self._lease_ms = lease_ms
        self._max_attempts = max_attempts

    async def sweep_orphans(self) -> bool:
        """Take over every orphan found right now, as fast as there is room; False if nothing was asked."""
        # After an outage every call looks like an orphan until its owner has had the time to renew it.
        if self._link.unbroken < self._lease_ms / 2000:
            return False
        # Parked calls whose due time was lost have nobody either: they become due.
        await self._store.restore_parked()
        for owner in await self._store.owners():
            taken = _Taken()
            try:
                whole = await self._take_over(owner, taken)
            finally:
                if taken.first is not None:
                    self._probe.orphans_claimed(taken.first, taken.count)
            if not whole:
                break
        return True

    async def _take_over(self, owner: str, taken: _Taken) -> bool:
        """Take over what *owner* has left, and count it as *taken*; False if there is no room for all of it."""
        after: str | None = None
        while True:
            async with self._intake.turn() as room:
                if room == 0:
                    return False
                claims = await self._store.claim(
                    owner,
                    lease_ms=self._lease_ms,
                    count=min(room, _AT_ONCE),
                    suspects=self._inflight.suspects,
                    max_attempts=self._max_attempts,
                    after=after,
                )
                self._report(claims, owner)
                taken.add(claims.claimed)
                await self._intake.take_over(claims.claimed)
            after = claims.more
            if after is None:
                return True

    async def sweep_due(self) -> bool:
        """Take every parked call that is due, as fast as there is room; False if nothing was asked."""
        skipped = await self._left_to_others()
        asked = False
        while True:
            async with self._intake.turn() as room:
                count = min(room, _AT_ONCE)
                if count == 0:
                    return asked
                asked = True
                claims = await self._store.claim_due(
                    count=count,
                    suspects=self._inflight.suspects,
                    max_attempts=self._max_attempts,
                    skipped=skipped,
                )
                self._report(claims, PARKED)
                await self._intake.take_over(claims.claimed)
            if len(claims.claimed) < count:
                return True

    def _report(self, claims: Claims, owner: str) -> None:
        for entry_id, attempt in claims.gone:
            self._probe.call_lost(entry_id, owner=owner, attempt=attempt, reason="deleted")

    async def _left_to_others(self) -> list[str]:
        """Name the calls that we gave back for tools which another live worker serves."""
        left = []
        for entry_id, tool in self._inflight.released():
            if await self._neighbours.serve(tool):
                left.append(entry_id)
            else:
                self._inflight.forget_release(entry_id)
        return left


@dataclass(slots=True)
class _Taken:
    """What was taken over of one owner: of a hundred thousand, only the first is kept."""

    first: Delivery | None = None
    count: int = 0

    def add(self, claims: Sequence[Claimed]) -> None:
        if claims and self.first is None:
            self.first = claims[0].delivery
        self.count += len(claims)
