"""Settles in batches: while Redis writes the replies of one, those of the next are encoded."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError
from toolspan.model import Succeeded, value
from toolspan.store.steps import Settled
from toolspan.worker.batcher import take

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from toolspan.model import Run
    from toolspan.store.steps import Settlement
    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import InFlight, Work
    from toolspan.worker.persistence import Persistence

MAX_BATCH: Final = 100
MAX_BATCH_BYTES: Final = 1_048_576
_PARTS: Final = 2
"""While one part of what is held is settled, another one is run."""

_LONGEST_GATHERING_NS: Final = 2_000_000

_FRESH_NS: Final = 5_000_000
"""For how long the phases are right that an encoded reply tells of."""


@value
class _Batch:
    """Works to be settled, and how it was when their replies were encoded."""

    works: list[Work]
    settlements: list[Settlement]
    encoded_ns: int
    adoptions: int


class Settler:
    """Writes replies and acknowledges. What is not ours any more is dropped, and counted as stale."""

    def __init__(
        self,
        store: StreamStore,
        probe: Probe,
        persistence: Persistence,
        *,
        encode: Callable[[Work, int], Settlement],
        refused: Callable[[Work, Settled], None],
        concurrency: int,
    ) -> None:
        self.inflight: InFlight
        self._store = store
        self._probe = probe
        self._persistence = persistence
        self._encode = encode
        self._refused = refused
        self._most = min(MAX_BATCH, max(1, concurrency // _PARTS))
        self._number = 0
        self._waiting: list[Work] = []
        self._wake = asyncio.Event()
        self._encoded: _Batch | None = None
        """The next batch to be sent, behind the one that is on its way."""
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()

    def submit(self, work: Work) -> None:
        """Have *work* settled with the next batch: it is ours to let go of from here on."""
        if not self._waiting:
            self._wake.set()
        self._waiting.append(work)

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Give what has to run, until cancelled, for batches to be sent."""
        return [self._gather(), self._send()]

    async def _gather(self) -> None:
        while True:
            await self._wake.wait()
            while self._gathers():  # noqa: ASYNC110 - a turn of the loop
                await asyncio.sleep(0)
            works = take(self._waiting, most=self._most, most_bytes=MAX_BATCH_BYTES, size=_reply_bytes)
            if not self._waiting:
                self._wake.clear()
            batch = self._encoded_of(works)
            while self._encoded is not None:
                self._emptied.clear()
                await self._emptied.wait()
            self._encoded = batch
            self._filled.set()

    def _gathers(self) -> bool:
        """Whether more is about to come: together it is cheaper, but no reply waits for long for those of others."""
        if len(self._waiting) >= self._most or not self.inflight.busy:
            return False
        return time.monotonic_ns() - self._waiting[0].run.settling_ns < _LONGEST_GATHERING_NS

    def _encoded_of(self, works: list[Work]) -> _Batch:
        now_ns = time.monotonic_ns()
        return _Batch(works, [self._encode(work, now_ns) for work in works], now_ns, self.inflight.adoptions)

    def _is_true(self, batch: _Batch, now_ns: int) -> bool:
        """Whether what was encoded is still so: meanwhile a run may have taken over a new delivery of its entry."""
        return batch.adoptions == self.inflight.adoptions and now_ns - batch.encoded_ns < _FRESH_NS

    async def _send(self) -> None:
        while True:
            while self._encoded is None:
                self._filled.clear()
                await self._filled.wait()
            batch, self._encoded = self._encoded, None
            self._emptied.set()
            await self._settle(batch)

    async def _settle(self, batch: _Batch) -> None:
        works = batch.works
        self._number += 1
        number = self._number
        began_ns = 0

        async def write() -> list[Settled]:
            nonlocal began_ns, batch
            began_ns = time.monotonic_ns()
            if not self._is_true(batch, began_ns):
                batch = self._encoded_of(works)
            try:
                return await self._store.settle(number, batch.settlements, held=len(self.inflight))
            except StoreError as exc:
                self._probe.settle_failed(exc, began_ns=began_ns, ended_ns=time.monotonic_ns())
                raise

        statuses = await self._persistence.held("settle", write)
        ended_ns = time.monotonic_ns()
        done = [work for work, status in zip(works, statuses, strict=True) if status is Settled.DONE]
        for work in done:
            work.ended = True
        self.inflight.settled(*done)
        try:
            # Whoever waits for room reads on before the next batch is sent.
            await asyncio.sleep(0)
        finally:
            # While Redis writes that one, this one is told of.
            runs = [work.run for work in done]
            asyncio.get_running_loop().call_soon(self._tell, runs, began_ns, ended_ns)
        if len(done) < len(works):
            for work, status in zip(works, statuses, strict=True):
                self._refused(work, status)

    def _tell(self, runs: list[Run], began_ns: int, ended_ns: int) -> None:
        try:
            self._probe.settled(runs, began_ns=began_ns, ended_ns=ended_ns)
        except Exception as exc:  # noqa: BLE001
            # Redis has taken their ends: what is not told of them must not stop the others.
            self._probe.bug("settle", exc)


def _reply_bytes(work: Work) -> int:
    outcome, call = work.run.outcome, work.run.call
    size = len(outcome.result) if isinstance(outcome, Succeeded) else len(outcome.message) if outcome else 0
    # Under an idempotency key it is written twice.
    return 2 * size if call is not None and call.idem is not None else size
