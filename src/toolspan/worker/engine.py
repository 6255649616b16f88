"""Puts the roles together; start and shutdown order."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec import VERSION, Codec, Limits
from toolspan.errors import LeaseMismatchError, ServerFullError, StoreError
from toolspan.periodic import ended, every, pause
from toolspan.store import Inspector, StreamStore
from toolspan.store.keeper import Keeper, Registration
from toolspan.worker.completer import Completer
from toolspan.worker.fetcher import Fetcher
from toolspan.worker.heartbeater import BEATS_PER_LEASE, Heartbeater
from toolspan.worker.inflight import InFlight, Work
from toolspan.worker.intake import Intake
from toolspan.worker.link import Link
from toolspan.worker.neighbours import Neighbours
from toolspan.worker.processor import outcome_unknown
from toolspan.worker.reaper import Reaper
from toolspan.worker.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from toolspan.model import ToolInfo
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.store.clock import RedisClock
    from toolspan.telemetry.probe import Probe

_LONGEST_BLOCK_MS: Final = 500
"""How long a read waits: so late may a drain begin, and so long may an orphan wait for its turn at the door."""

_LONGEST_SWEEP: Final = 5.0
_LONGEST_DUE_SWEEP: Final = 1.0
_LONGEST_REAP: Final = 60.0
_HAND_BACK_SECONDS: Final = 5.0
_STUBBORN_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a processor is made of."""

    codec: Codec
    completer: Completer
    neighbours: Neighbours
    clock: RedisClock


def consumer_name(label: str | None = None) -> str:
    """Make a consumer name that was never used: two workers of one name would break the fence."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", label or socket.gethostname())[:64]
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"


class Engine:
    """One consumer of the group: takes deliveries in, has them processed, and keeps them ours meanwhile."""

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        probe: Probe,
        processor: Callable[[Parts], Callable[[Work], Coroutine[None, None, None]]],
        *,
        me: str,
        tools: Mapping[str, ToolInfo],
        sweep_seconds: float | None = None,
        abandoned: Callable[[], int] = lambda: 0,
    ) -> None:
        self.consumer = me
        self.ready = asyncio.Event()
        """Set once we are registered and take calls in."""
        self._connection = connection
        self._settings = settings
        self._probe = probe
        self._processor = processor
        self._tools = tools
        self._sweep_seconds = sweep_seconds or min(settings.lease_ms / 4000, _LONGEST_SWEEP)
        self._abandoned = abandoned
        self._stopping = asyncio.Event()
        self._cut = asyncio.Event()

    def stop(self) -> None:
        """Begin the drain; a second call cuts it short."""
        if self._stopping.is_set():
            self._cut.set()
        self._stopping.set()

    async def run(self) -> bool:
        """Work until `stop`, then drain; tell whether all that we held has got its end or was given back.

        Raises:
            StoreError: if Redis cannot be used at the start.
            LeaseMismatchError: if another live worker has a different lease.
        """
        self._build()
        await self._join()
        try:
            async with self._heartbeater, asyncio.TaskGroup() as heart:
                self._serve()
                beating = [heart.create_task(run) for run in (self._heartbeater.tick(), *self._completer.runs())]
                await self._take_in()
                clean = await self._drain()
                await ended(*beating)
        finally:
            # Only where we end otherwise than by a drain is anything left: others take it over.
            self._inflight.abandon()
        await self._leave()
        return clean

    def _build(self) -> None:
        s = self._settings
        registration_ttl_ms = s.reap_after_ms + s.lease_ms
        codec = Codec(s.keys, Limits(s.max_args_bytes, s.max_reply_bytes, s.max_nesting))
        self._store = StreamStore(
            self._connection,
            s.keys,
            me=self.consumer,
            block_ms=min(_LONGEST_BLOCK_MS, s.lease_ms // 10),
            registration_ttl_ms=registration_ttl_ms,
            reply_ttl_seconds=s.reply_ttl_seconds,
            reply_maxlen=s.reply_maxlen,
        )
        self._inspector = Inspector(self._connection, s.keys)
        self._link = Link()
        self._completer = Completer(self._store, codec, self._probe)
        neighbours = Neighbours(self._inspector, self._probe, me=self.consumer)
        parts = Parts(codec, self._completer, neighbours, self._store.clock)
        self._inflight = InFlight(self._processor(parts), limit=s.concurrency)
        self._completer.inflight = self._inflight
        intake = Intake(self._store, self._inflight, self._link, self._probe, max_attempts=s.max_attempts)
        self._fetcher = Fetcher(self._store, intake, self._probe)
        self._reclaimer = Reclaimer(
            self._store,
            self._inflight,
            intake,
            neighbours=neighbours,
            link=self._link,
            probe=self._probe,
            lease_ms=s.lease_ms,
            max_attempts=s.max_attempts,
        )
        self._reaper = Reaper(
            self._store,
            self._inspector,
            self._link,
            self._probe,
            silent_ms=s.reap_after_ms,
            lease_ms=s.lease_ms,
        )
        self._keeper = Keeper(
            self._connection,
            s.keys,
            me=self.consumer,
            clock=self._store.clock,
            ttl_ms=registration_ttl_ms,
            timeout=max(0.5, min(s.lease_ms / 1000 / BEATS_PER_LEASE, 5.0)),
        )

    async def _join(self) -> None:
        """Reach Redis, and make sure that the group is there and that we may join it."""
        await self._store.synchronise()
        for worker in await self._inspector.workers():
            if worker.live and worker.lease_ms != self._settings.lease_ms:
                message = (
                    f"{worker.consumer} runs with a lease of {worker.lease_ms} ms, we were given "
                    f"{self._settings.lease_ms}: set TOOLSPAN_LEASE_MS to the same for all workers of a stream"
                )
                raise LeaseMismatchError(message)
        try:
            if await self._store.ensure_group():
                self._probe.group_created()
        except ServerFullError as exc:
            # The group may be there all the same; if it is not, the fetcher meets that.
            self._probe.outage("group", exc)
        self._heartbeater = Heartbeater(
            self._keeper,
            self._inflight,
            self._link,
            self._probe,
            registration=self._registration(),
            tools=self._tools,
            lease_ms=self._settings.lease_ms,
        )

    def _serve(self) -> None:
        """Say that we are registered, and about to take calls in."""
        self._probe.worker_started(
            self.consumer, sorted(info.name for info in self._tools.values()), concurrency=self._settings.concurrency
        )
        self._probe.observe_worker(
            inflight=lambda: len(self._inflight), room=lambda: self._inflight.room, abandoned=self._abandoned
        )
        self.ready.set()

    def _registration(self) -> Registration:
        return Registration(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("toolspan"),
            protocol=VERSION,
            lease_ms=self._settings.lease_ms,
            concurrency=self._settings.concurrency,
            start_ms=self._store.clock.now_ms(),
            tools={info.name: digest for digest, info in self._tools.items()},
        )

    async def _take_in(self) -> None:
        """Take deliveries until told to stop; a read that is under way then still ends."""
        lease = self._settings.lease_ms / 1000
        probe, stopping = self._probe, self._stopping
        rounds = [
            (self._sweep_seconds, self._reclaimer.sweep_orphans, "claim"),
            (min(lease / 4, _LONGEST_DUE_SWEEP), self._reclaimer.sweep_due, "claim_due"),
            (min(self._settings.reap_after_ms / 4000, _LONGEST_REAP), self._reaper.sweep, "reap"),
        ]
        async with asyncio.TaskGroup() as intake:
            intake.create_task(self._fetcher.run(until=stopping), name="fetcher")
            for seconds, sweep, step in rounds:
                intake.create_task(every(seconds, sweep, step=step, until=stopping, probe=probe), name=step)
            await self._stopped_or_failed()

    async def _stopped_or_failed(self) -> None:
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({stopped, self._inflight.failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            # Also where we are cancelled, or a task failed: nothing more is to be taken in.
            self._stopping.set()
            self._inflight.close()
        if self._inflight.failure.done():
            self._inflight.failure.result()

    async def _drain(self) -> bool:
        """Finish what we hold, up to the drain's deadline; then give the rest back."""
        began = time.monotonic()
        self._probe.drain_started(len(self._inflight))
        empty = asyncio.ensure_future(self._inflight.wait_until_empty())
        cut = asyncio.ensure_future(pause(self._settings.drain_seconds, until=self._cut))
        await asyncio.wait({empty, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        left = [work for work in self._inflight if not work.ending]
        given_back = False
        try:
            async with asyncio.timeout(_HAND_BACK_SECONDS):
                await self._hand_back(left)
                # What has its outcome only waits for Redis to take it.
                await empty
            given_back = True
        except TimeoutError:
            given_back = all(work in left for work in self._inflight) and all(work.ending for work in left)
        empty.cancel()
        self._probe.drain_finished(released=len(left), seconds=time.monotonic() - began)
        return given_back

    async def _hand_back(self, works: list[Work]) -> None:
        tasks = [work.task for work in works if work.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            # A tool that does not let itself be cancelled is left behind.
            await asyncio.wait(tasks, timeout=_STUBBORN_SECONDS)
        for work in works:
            if work.lost or (work.task is not None and work.task.done() and not work.task.cancelled()):
                continue
            if work.token:
                await self._completer.quarantine(work, "outcome_unknown", outcome_unknown())
            else:
                await self._completer.release(work, reason="drain", at_once=True)

    async def _leave(self) -> None:
        try:
            await self._store.reap(self.consumer, silent_ms=0)
        except StoreError as exc:
            self._probe.outage("leave", exc)
        self._probe.worker_stopped(self.consumer)
