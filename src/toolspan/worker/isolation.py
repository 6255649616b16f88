"""A suspect's last attempt runs alone, so that no call is quarantined for the harm that its neighbours did."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from toolspan.model import SUSPECT_FROM, Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from toolspan.model import Delivery
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import InFlight

_LOOKS_PER_LEASE: Final = 4


class Isolation:
    """Has a call wait until it is alone in this worker, and everybody else until it has ended.

    Alone means beside nothing that began within the last lease: what has run for longer does no harm, or not soon
    enough to be waited for. For the same reason nobody waits longer than a lease for the call itself.
    """

    def __init__(self, inflight: InFlight, probe: Probe, *, lease_ms: int, max_attempts: int) -> None:
        self._inflight = inflight
        self._probe = probe
        self._lease = lease_ms / 1000
        self._max_attempts = max_attempts

    def concerns(self, delivery: Delivery) -> bool:
        """Tell whether a claimed call is a suspect whose next loss is its end."""
        attempt = delivery.attempt if delivery.counted else delivery.attempt + 1
        return (
            delivery.losses >= SUSPECT_FROM
            and attempt == self._max_attempts
            and delivery.entry_id not in self._inflight
        )

    @asynccontextmanager
    async def of(self, delivery: Delivery) -> AsyncIterator[bool]:
        """Wait until the call may begin alone, and at the end of the block until it has ended; False: it was lost.

        Whoever asks for this keeps the door closed meanwhile. A worker that is to stop takes nothing in anyway, and
        has nobody wait.
        """
        inflight = self._inflight
        began = time.monotonic()
        inflight.reserved = True
        try:
            held = inflight.hold(Run(delivery))
            await inflight.wait_until(
                lambda: held.lost or inflight.closed or self._is_only(held.entry_id),
                look_every=self._lease / _LOOKS_PER_LEASE,
            )
            inflight.drop(held)
            if not held.lost:
                self._probe.isolated(delivery, waited=time.monotonic() - began)
            yield not held.lost
            until = time.monotonic() + self._lease
            await inflight.wait_until(
                lambda: inflight.closed or delivery.entry_id not in inflight or time.monotonic() >= until,
                look_every=self._lease / _LOOKS_PER_LEASE,
            )
        finally:
            inflight.reserved = False

    def _is_only(self, entry_id: str) -> bool:
        long_ago = time.monotonic_ns() - int(self._lease * 1e9)
        return all(
            work.entry_id == entry_id or work.decided or 0 < work.run.tool_began_ns <= long_ago
            for work in self._inflight
        )
