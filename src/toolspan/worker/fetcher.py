"""Takes new deliveries, as many as there is room for."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError
from toolspan.periodic import pause

if TYPE_CHECKING:
    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.cancellations import Cancellations
    from toolspan.worker.intake import Intake
    from toolspan.worker.vitals import Vitals

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0

_TURNS: Final = 4
"""So many turns of the loop does it take from a delivery to the command that carries its reply."""


class Fetcher:
    """Reads entries that nobody was given yet."""

    def __init__(
        self, store: StreamStore, intake: Intake, cancellations: Cancellations, vitals: Vitals, probe: Probe
    ) -> None:
        self._store = store
        self._cancellations = cancellations
        self._intake = intake
        self._vitals = vitals
        self._probe = probe

    async def run(self, *, until: asyncio.Event) -> None:
        """Fetch until *until* is set. A read that is under way then is left to end: entries may already be ours."""
        wait = _FIRST_WAIT
        while not until.is_set():
            try:
                if await self.fetch():
                    self._probe.recovered("read")
                wait = _FIRST_WAIT
            except StoreError as exc:
                self._probe.outage("read", exc)
                await pause(wait * random.uniform(0.5, 1), until=until)  # noqa: S311
                wait = min(wait * 2, _LONGEST_WAIT)

    async def fetch(self) -> bool:
        """Wait for room and for entries, at most as long as a block lasts, and take them; False if none was read."""
        async with self._intake.turn() as room:
            if room == 0:
                return False
            began_ns = time.monotonic_ns()
            # Whoever waits behind us has orphans or due calls to take: where nothing is new, he comes at once.
            deliveries = await self._store.read_new(room, wait=not self._intake.awaited)
            self._vitals.takes()
            # Inside our turn: what we cannot look at is found again before the next one.
            if deliveries and not self._cancellations.knows(deliveries[0]):
                await self._cancellations.look(deliveries)
        if deliveries:
            ended_ns = time.monotonic_ns()
            self._intake.take(deliveries)
            self._probe.received(began_ns=began_ns, ended_ns=ended_ns)
            if len(deliveries) < room:
                # Nothing more is there now: until the replies to quick calls are sent, reading on can wait.
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
        return True
