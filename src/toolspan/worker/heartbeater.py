"""Keeps our leases fresh while tools run, from a thread that a blocked event loop cannot stop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, Self

from toolspan.errors import StoreError, WrongTypeError
from toolspan.loop_watch import tell_stall
from toolspan.periodic import LONGEST_TICK, ticks
from toolspan.standstill import Standstill
from toolspan.store.keeper import Held, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from toolspan.model import Control, ToolInfo
    from toolspan.store.keeper import Keeper, Kept, Registration
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.controls import Controls
    from toolspan.worker.inflight import InFlight, Work
    from toolspan.worker.link import Link
    from toolspan.worker.vitals import Vitals

BEATS_PER_LEASE: Final = 4
_TICKS_PER_BEAT: Final = 4
_LAST_BEAT_SECONDS: Final = 1.0
_MOST_ATTEMPTS: Final = 4
"""From here on attempts are counted as one."""

_OLDEST: Final = 20
"""So many of the longest running calls are told of: some will have ended by the time somebody looks."""

_RETRY_SECONDS: Final = 0.25
"""So soon after a failed beat: the first one after a reconnect must not wait, or leases would run out."""


class Heartbeater:
    """Beats four times a lease, and quickly again after a beat that failed."""

    def __init__(
        self,
        keeper: Keeper,
        inflight: InFlight,
        link: Link,
        vitals: Vitals,
        probe: Probe,
        *,
        cancel: Callable[[list[str]], None],
        controls: Controls,
        registration: Registration,
        tools: Mapping[str, ToolInfo],
        lease_ms: int,
    ) -> None:
        self._keeper = keeper
        self._inflight = inflight
        self._link = link
        self._vitals = vitals
        self._probe = probe
        self._cancel = cancel
        self._controls = controls
        self._registration = registration
        self._tools = tools
        self._lease_ms = lease_ms
        self._lease = lease_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._vitals.ticks()
        self._stalled = False
        self._describe_at = 0.0
        self._standstill = Standstill(at_least=self._lease / 2)
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    async def __aenter__(self) -> Self:
        """Beat from now on, in the thread."""
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the thread after the beat that is under way, if that is soon."""
        self._stop.set()
        self._woken.set()
        await asyncio.to_thread(self._thread.join, _LAST_BEAT_SECONDS)

    def hurry(self) -> None:
        """Beat now, and not only when it is time."""
        self._woken.set()

    async def tick(self) -> None:
        """Show the thread, until cancelled, that the loop is not stalled."""
        seconds = min(self._lease / BEATS_PER_LEASE / _TICKS_PER_BEAT, LONGEST_TICK)
        async for lag in ticks(seconds):
            self._vitals.ticks()
            self._probe.loop_lagged(lag)
            if self._inflight.room == 0:
                self._vitals.takes()

    def beat(self) -> None:
        """Renew the heartbeat and every lease; tell the loop what was lost."""
        # What has its end may still be held by a tool that does not let itself be cancelled.
        works = [work for work in self._inflight if not work.ended]
        calls = [work.run.call.id for work in works if work.run.call is not None and not work.decided]
        unnoted = {work.entry_id: work for work in works if self._shall_note(work)}
        asked = {work.entry_id: work.run.delivery.attempt for work in works}
        asked_ns = time.monotonic_ns()
        kept = self._keeper.keep(
            [Held(entry_id, attempt, noted=entry_id not in unnoted) for entry_id, attempt in asked.items()],
            running={work.entry_id: work.run.tool for work in works},
            load=_load_of(works),
            calls=calls,
            draining=self._vitals.draining,
        )
        self._link.works()
        self._vitals.beats()
        self._heed(kept.control)
        self._probe.leases_renewed(asked_ns=asked_ns, lease_ms=self._lease_ms)
        self._renew_slots(works)
        if not kept.registered or time.monotonic() >= self._describe_at:
            self._register(anew=not kept.registered)
        lost = dict(kept.lost)
        for work in unnoted.values():
            work.noted = work.noted or work.entry_id not in lost
        if lost:
            self._loop.call_soon_threadsafe(self._lose, kept)
        if kept.cancelled:
            self._loop.call_soon_threadsafe(self._cancel, kept.cancelled)

    def _renew_slots(self, works: list[Work]) -> None:
        """Keep the slots of calls of tools that have a limit for the whole fleet; most have none."""
        slots: dict[str, list[str]] = {}
        for work in works:
            if work.slot:
                slots.setdefault(work.slot, []).append(work.entry_id)
        for tool, entry_ids in slots.items():
            try:
                self._keeper.renew_slots(tool, entry_ids, lease_ms=self._lease_ms)
                self._probe.recovered("renew_slots")
            except StoreError as exc:
                # The leases are renewed all the same: somebody's hand was on this one key, or the next beat fails too.
                self._probe.outage("renew_slots", exc)

    def _shall_note(self, work: Work) -> bool:
        if work.noted:
            return False
        # In this order: a settle clears away what this heartbeat writes, or is known to be under way. One that was
        # sent before might arrive after it, and would leave it behind.
        work.recorded = True
        return not work.decided

    def _register(self, *, anew: bool) -> None:
        """Write our registration, or else only what describes our tools.

        On a full server that fails where heartbeats pass, and the next one tries again.
        """
        try:
            if anew:
                self._keeper.register(self._registration, self._tools)
            else:
                self._keeper.describe(self._tools)
            self._describe_at = time.monotonic() + self._keeper.describe_every
            self._probe.recovered("register")
        except StoreError as exc:
            self._probe.outage("register", exc)

    def _heed(self, control: Control | None) -> None:
        if control is None:
            self._probe.outage("control", WrongTypeError("something else lies under the key of what operators ask for"))
        else:
            self._controls.hear(control)
            self._probe.recovered("control")

    def _lose(self, kept: Kept) -> None:
        for entry_id, attempt in kept.lost:
            self._inflight.lose(entry_id, attempt)

    def _run(self) -> None:
        try:
            self._beat_on()
        except BaseException as exc:  # noqa: BLE001
            # A bug of ours. Unheard, the worker would go on and lose every lease.
            self._loop.call_soon_threadsafe(self._inflight.fail, exc)

    def _beat_on(self) -> None:
        wait = self._lease / BEATS_PER_LEASE
        while not self._waited(wait):
            if self._is_stalled():
                # What we hold looks like orphans by now, to us as well.
                self._link.broke()
                wait = min(_RETRY_SECONDS, self._lease / BEATS_PER_LEASE)
                continue
            try:
                self.beat()
            except StoreError as exc:
                # Whatever the reason, nobody's leases may have been renewed meanwhile.
                self._link.broke()
                self._probe.outage("keep", exc)
                wait = min(_RETRY_SECONDS, self._lease / BEATS_PER_LEASE)
            else:
                self._probe.recovered("keep")
                wait = self._lease / BEATS_PER_LEASE

    def _waited(self, seconds: float) -> bool:
        """Wait until it is time or somebody wants a beat, and tell whether we are to stop."""
        self._standstill.begins()
        self._woken.wait(seconds)
        self._woken.clear()
        self._standstill.ends(after=seconds)
        return self._stop.is_set()

    def _is_stalled(self) -> bool:
        """Tell whether the loop stood still for longer than a lease: that worker counts as dead, and renews nothing."""
        if not self._vitals.stalled:
            self._stalled = False
        elif not self._stalled:
            self._stalled = True
            tell_stall(self._probe, self._standstill, seconds=self._vitals.still, loop_thread=self._loop_thread)
        return self._stalled


def _load_of(works: list[Work]) -> Load:
    deliveries = [work.run.delivery for work in works]
    attempts = Counter(min(delivery.attempt, _MOST_ATTEMPTS) for delivery in deliveries)
    oldest = nsmallest(_OLDEST, deliveries, key=lambda delivery: delivery.read_ms)
    return Load((attempts[2], attempts[3], attempts[4]), [(d.entry_id, d.attempt, d.read_ms) for d in oldest])
