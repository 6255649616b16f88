"""What a worker has lately shown of itself, and whether it should be sent calls for that."""

from __future__ import annotations

import math
import time

from toolspan.health import Unready


class Vitals:
    """Signs of life, which roles leave and any thread may read. *lease_ms* is how old they may be."""

    def __init__(self, lease_ms: int) -> None:
        self._lease = lease_ms / 1000
        self._joined = False
        self._draining = False
        self._ticked = time.monotonic()
        self._beaten = self._taken = -math.inf

    def joins(self) -> None:
        """The worker is registered, and about to take calls in."""
        self._joined = True

    @property
    def draining(self) -> bool:
        """Whether the worker takes nothing more."""
        return self._draining

    def drains(self) -> None:
        """The worker takes nothing more."""
        self._draining = True

    def ticks(self) -> None:
        """The event loop goes on."""
        self._ticked = time.monotonic()

    def beats(self) -> None:
        """Redis accepted a heartbeat."""
        self._beaten = time.monotonic()

    def takes(self) -> None:
        """Redis answered a read, or there was no room for one."""
        self._taken = time.monotonic()

    @property
    def heartbeat_age(self) -> float | None:
        """Seconds since Redis last accepted a heartbeat; None if it never has."""
        return _age(self._beaten)

    @property
    def poll_age(self) -> float | None:
        """Seconds since Redis last answered a read, or there was no room for one; None if it never was so."""
        return _age(self._taken)

    @property
    def still(self) -> float:
        """Seconds since the event loop last went on."""
        return time.monotonic() - self._ticked

    @property
    def stalled(self) -> bool:
        """Whether the event loop stood still for longer than a lease: such a worker counts as dead."""
        return self.still > self._lease

    def unready(self) -> Unready | None:
        """Say why nothing should be sent to this worker now; None if all is well."""
        if self._draining:
            return Unready("draining", "this worker takes nothing more, and finishes what it holds", retryable=False)
        if not self._joined:
            return Unready("starting", "this worker has not joined its group yet")
        if math.isinf(self._taken):
            return Unready("starting", "this worker has not read from its stream yet")
        return (
            self._late("loop_stalled", "the event loop stood still", self._ticked)
            or self._late("heartbeat_late", "no heartbeat was accepted", self._beaten)
            or self._late("read_late", "no read was answered although there is room", self._taken)
        )

    def _late(self, kind: str, what: str, since: float) -> Unready | None:
        seconds = time.monotonic() - since
        if seconds <= self._lease:
            return None
        message = f"{what} for {seconds:.1f} s, and the lease is {self._lease:g} s"
        return Unready(kind, message, detail={"seconds": round(seconds, 3), "lease_seconds": self._lease})


def _age(moment: float) -> float | None:
    return None if math.isinf(moment) else time.monotonic() - moment
