"""The one door through which deliveries come in: room is shared fairly, and nothing handed to us is forgotten."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from toolspan.errors import GroupMissingError, StoreError, StoreUnavailableError
from toolspan.model import Failed, Run
from toolspan.store.steps import Start, Started
from toolspan.worker.inflight import Verdict
from toolspan.worker.processor import outcome_unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.model import Delivery
    from toolspan.store.steps import Claimed
    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.cancellations import Cancellations
    from toolspan.worker.inflight import InFlight
    from toolspan.worker.isolation import Isolation
    from toolspan.worker.link import Link


class Intake:
    """Lets one role in at a time, in the order in which they ask, so that new calls and orphans share the room."""

    def __init__(
        self,
        store: StreamStore,
        inflight: InFlight,
        cancellations: Cancellations,
        *,
        isolation: Isolation,
        link: Link,
        probe: Probe,
        max_attempts: int,
    ) -> None:
        self._store = store
        self._inflight = inflight
        self._cancellations = cancellations
        self._link = link
        self._isolation = isolation
        self._probe = probe
        self._max_attempts = max_attempts
        self._door = asyncio.Lock()
        self._asking = 0
        self._failed: StoreError | None = None
        """What may have hidden a hand-over from us."""

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the turn that is being had, and should not have to wait long."""
        return self._asking > 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """Wait for our turn and for room, and give how much there is; 0: we take nothing more.

        A failure of Redis inside may have hidden a hand-over: what we hold is looked through before the next turn.
        """
        self._asking += 1
        try:
            await self._door.acquire()
        finally:
            self._asking -= 1
        try:
            if not await self._inflight.wait_for_room():
                yield 0
                return
            try:
                if self._failed is not None:
                    await self._recover(self._failed)
                self._inflight.forget_ended()
                yield self._inflight.room
            except StoreError as exc:
                self._failed = exc
                if isinstance(exc, StoreUnavailableError):
                    self._link.broke()
                if isinstance(exc, GroupMissingError) and await self._store.ensure_group():
                    self._probe.group_created()
                raise
        finally:
            self._door.release()

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Start working on what was read as new."""
        self._inflight.take(deliveries)

    async def take_over(self, claims: Sequence[Claimed]) -> None:
        """Work on what was claimed, and have it counted before, unless it was; or quarantine what must not be run."""
        await self._tell_of_the_lost(claims)
        begun: list[Claimed] = []
        begin: list[Delivery] = []
        alone: list[Delivery] = []
        for claim in claims:
            delivery = claim.delivery
            if claim.begun:
                begun.append(claim)
                continue
            verdict = self._verdict(claim)
            if verdict is not None:
                self._inflight.add(Run(delivery), verdict=verdict, recorded=True, noted=True)
            elif self._isolation.concerns(delivery):
                alone.append(delivery)
            else:
                begin.append(delivery)
        if begun:
            await self._cancellations.learn(begun)
            self._inflight.take_over([claim.delivery for claim in begun])
        await self._begin(begin)
        for delivery in alone:
            async with self._isolation.of(delivery) as ours:
                await self._begin([delivery] if ours else [])

    async def _tell_of_the_lost(self, claims: Sequence[Claimed]) -> None:
        """Look up what is on record of the workers whose attempts were lost, for these cannot speak for themselves."""
        deliveries = [claim.delivery for claim in claims]
        lost = {one.history[-1].consumer for one in deliveries if one.loss and one.history}
        for consumer in sorted(lost):
            if self._probe.knows_worker(consumer):
                continue
            try:
                self._probe.worker_lost(await self._store.registered(consumer))
            except StoreError as exc:
                # Their calls are run all the same, and only less is told of them.
                self._probe.outage("registered", exc)
            else:
                self._probe.recovered("registered")

    async def _begin(self, deliveries: Sequence[Delivery]) -> None:
        """Work on what was claimed, and before anything else have it counted, unless it was before."""
        counted = [delivery for delivery in deliveries if delivery.counted]
        await self._cancellations.look(counted)
        for delivery in counted:
            self._inflight.add(Run(delivery), recorded=True)
        begin = [delivery for delivery in deliveries if not delivery.counted]
        if begin:
            await self._start(begin)

    async def _start(self, begin: Sequence[Delivery]) -> None:
        # The start comes before anything is done with the body: a crash there would otherwise never be counted.
        statuses = await self._store.start(
            [Start(delivery.entry_id, delivery.attempt, delivery.attempt + 1) for delivery in begin]
        )
        begun = [delivery for delivery, status in zip(begin, statuses, strict=True) if status is Started.DONE]
        for delivery in begun:
            delivery.attempt += 1
            delivery.counted = True
        await self._cancellations.look(begun)
        self._inflight.take_over(begun)

    def _verdict(self, claim: Claimed) -> Verdict | None:
        delivery = claim.delivery
        if claim.marked:
            return Verdict("outcome_unknown", outcome_unknown())
        if delivery.counted or delivery.attempt < self._max_attempts:
            return None
        if delivery.previous and delivery.previous.loss:
            message = f"{delivery.attempt} attempts were made, and the last one lost its worker"
            return Verdict("worker_lost", Failed("quarantined", message))
        return Verdict("max_attempts", Failed("worker_error", f"{delivery.attempt} attempts were made", retryable=True))

    async def _recover(self, failed: StoreError) -> None:
        claims = await self._store.recover(self._inflight.entry_ids())
        self._failed = None
        self._probe.found([claim.delivery for claim in claims], failed)
        await self.take_over(claims)
