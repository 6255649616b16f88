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
from toolspan.periodic import ended, every
from toolspan.store import Inspector, StreamStore
from toolspan.store.cancellations import CancellationStore
from toolspan.store.keeper import Keeper, Registration
from toolspan.store.limits import LimitStore
from toolspan.store.progress import ProgressStore
from toolspan.worker.admission import Admission
from toolspan.worker.cancellations import Cancellations
from toolspan.worker.canceller import Canceller
from toolspan.worker.completer import Completer
from toolspan.worker.fetcher import Fetcher
from toolspan.worker.heartbeater import BEATS_PER_LEASE, Heartbeater
from toolspan.worker.inflight import InFlight, Work
from toolspan.worker.intake import Intake
from toolspan.worker.link import Link
from toolspan.worker.neighbours import Neighbours
from toolspan.worker.processor import outcome_unknown
from toolspan.worker.progress import ProgressWriter
from toolspan.worker.reaper import Reaper
from toolspan.worker.reclaimer import Reclaimer
from toolspan.worker.vitals import Vitals

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
_GIVE_BACK_SECONDS: Final = 3.0
_STUBBORN_SECONDS: Final = 0.5
_LEAVE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What a processor is made of."""

    codec: Codec
    completer: Completer
    admission: Admission
    neighbours: Neighbours
    cancellations: Cancellations
    progress: ProgressWriter
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
        vitals: Vitals | None = None,
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
        self._vitals = vitals or Vitals(settings.lease_ms)
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        """Set at the drain's deadline."""
        self._first_beat: asyncio.Future[None] | None = None

    def stop(self) -> None:
        """Begin the drain, whose deadline counts from here; a second call cuts it short."""
        if self._stopping.is_set():
            self._over.set()
        self._begin_to_stop()
        asyncio.get_running_loop().call_later(self._settings.drain_seconds, self._over.set)

    def _begin_to_stop(self) -> None:
        self._vitals.drains()
        self._stopping.set()

    async def run(self) -> bool:
        """Work until `stop`, then drain; tell whether all that we held has got its end or was given back.

        Raises:
            StoreError: if Redis cannot be used at the start.
            LeaseMismatchError: if another live worker has a different lease.
        """
        self._build()
        try:
            if not await self._joined():
                return True
            async with self._heartbeater, asyncio.TaskGroup() as heart:
                runs = (
                    *(self._heartbeater.tick(), self._admission.run()),
                    *(*self._completer.runs(), *self._progress.runs(), *self._canceller.runs()),
                )
                beating = [heart.create_task(run) for run in runs]
                await self._tell()
                await self._take_in()
                clean = await self._drain()
                await ended(*beating)
        finally:
            # Only where we end otherwise than by a drain is anything left: others take it over.
            self._inflight.abandon()
            self._keeper.close()
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
            wait_replicas=s.wait_replicas,
        )
        self._inspector = Inspector(self._connection, s.keys)
        self._link = Link()
        self._completer = Completer(self._store, codec, self._probe)
        neighbours = Neighbours(self._inspector, self._probe, me=self.consumer)
        limits = LimitStore(self._connection, s.keys, me=self.consumer, clock=self._store.clock, lease_ms=s.lease_ms)
        self._admission = Admission(limits, self._probe, concurrency=s.concurrency, patience=s.lease_ms / 2000)
        cancelled = CancellationStore(self._connection, s.keys)
        cancellations = Cancellations(cancelled)
        self._progress = ProgressWriter(
            ProgressStore(
                self._connection,
                s.keys,
                me=self.consumer,
                reply_ttl_seconds=s.reply_ttl_seconds,
                reply_maxlen=s.reply_maxlen,
            ),
            self._probe,
            codec.limits,
        )
        parts = Parts(
            codec,
            self._completer,
            self._admission,
            neighbours,
            cancellations,
            self._progress,
            self._store.clock,
        )
        self._inflight = InFlight(self._processor(parts), limit=s.concurrency)
        self._completer.inflight = self._inflight
        self._canceller = Canceller(cancelled, cancellations, self._inflight, self._completer, self._probe)
        intake = Intake(
            self._store, self._inflight, cancellations, self._link, self._probe, max_attempts=s.max_attempts
        )
        self._fetcher = Fetcher(self._store, intake, cancellations, self._vitals, self._probe)
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

    async def _joined(self) -> bool:
        """Join the group, unless we are told to stop before."""
        joining = asyncio.create_task(self._join(), name="join")
        stopped = asyncio.create_task(self._stopping.wait(), name="stop")
        await asyncio.wait({joining, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not joining.done():
            await ended(joining)
            await self._take_back_registration()
            return False
        await ended(stopped)
        joining.result()
        return True

    async def _join(self) -> None:
        """Reach Redis, make sure that the group is there and that we may join it, and send the first heartbeat."""
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
            await self._store.look()
        except ServerFullError as exc:
            # The group may be there all the same; if it is not, the fetcher meets that.
            self._probe.outage("group", exc)
        self._heartbeater = Heartbeater(
            self._keeper,
            self._inflight,
            self._link,
            self._vitals,
            self._probe,
            registration=self._registration(),
            tools=self._tools,
            lease_ms=self._settings.lease_ms,
            cancel=self._canceller.cancel,
        )
        self._first_beat = asyncio.ensure_future(asyncio.to_thread(self._heartbeater.beat))
        # What runs in a thread cannot be cancelled: it registers us all the same.
        await asyncio.shield(self._first_beat)

    async def _take_back_registration(self) -> None:
        if self._first_beat is None:
            return
        await asyncio.wait({self._first_beat}, timeout=_LEAVE_SECONDS)
        if self._first_beat.done() and not self._first_beat.exception():
            await self._leave()

    async def _tell(self) -> None:
        """Say that we are registered, and about to take calls in."""
        # In a thread: it exports our counters once, and waits for the collector.
        await asyncio.to_thread(
            self._probe.worker_started,
            self.consumer,
            sorted(info.name for info in self._tools.values()),
            concurrency=self._settings.concurrency,
        )
        self._probe.observe_worker(
            inflight=lambda: len(self._inflight),
            room=lambda: self._inflight.room,
            abandoned=self._abandoned,
            waiting=self._admission.waiting,
        )
        self._vitals.joins()
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
            (self._sweep_seconds, self._reclaimer.sweep_orphans, "claim", None),
            (min(lease / 4, _LONGEST_DUE_SWEEP), self._reclaimer.sweep_due, "claim_due", self._admission.recalled),
            (min(self._settings.reap_after_ms / 4000, _LONGEST_REAP), self._reaper.sweep, "reap", None),
        ]
        async with asyncio.TaskGroup() as intake:
            taking = [intake.create_task(self._fetcher.run(until=stopping), name="fetcher")]
            for seconds, sweep, step, sooner in rounds:
                sweeping = every(seconds, sweep, step=step, until=stopping, probe=probe, sooner=sooner)
                taking.append(intake.create_task(sweeping, name=step))
            await self._stopped_or_failed()
            # A read that Redis does not answer must not keep us: what it may have handed us, others find.
            await ended(*await self._left_at_deadline(*taking))

    async def _stopped_or_failed(self) -> None:
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({stopped, self._inflight.failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            # Also where we are cancelled, or a task failed: nothing more is to be taken in.
            self._begin_to_stop()
            self._inflight.close()
            self._admission.close()
        if self._inflight.failure.done():
            self._inflight.failure.result()

    async def _left_at_deadline(self, *tasks: asyncio.Task[None]) -> set[asyncio.Task[None]]:
        """Wait until *tasks* have ended, at most until the drain's deadline, and give those that have not."""
        over = asyncio.create_task(self._over.wait(), name="deadline")
        left = set(tasks)
        while left and not over.done():
            await asyncio.wait({*left, over}, return_when=asyncio.FIRST_COMPLETED)
            left = {task for task in left if not task.done()}
        await ended(over)
        return left

    async def _drain(self) -> bool:
        """Finish what we hold, up to the drain's deadline; then give the rest back. Tell whether all has its end."""
        began = time.monotonic()
        held = list(self._inflight)
        self._probe.drain_started(self.consumer, len(held))
        finished = asyncio.create_task(self._inflight.wait_until_gone(held), name="finish")
        await ended(*await self._left_at_deadline(finished))
        given_back: list[Work] = []
        undecided = [work for work in self._inflight if not work.decided]
        giving_back = asyncio.create_task(self._give_back(undecided, given_back), name="give back")
        # What is decided only waits for Redis to take it.
        decided = [work for work in self._inflight if work.decided]
        taken = asyncio.create_task(self._inflight.wait_until_gone(decided), name="taken")
        _, late = await asyncio.wait({giving_back, taken}, timeout=_GIVE_BACK_SECONDS)
        await ended(*late, *(work.task for work in decided if work.task is not None))
        left = [work for work in held if not work.ended and not work.lost]
        quarantined = [bool(work.token) for work in given_back if work.ended]
        self._probe.drain_finished(
            self.consumer,
            released=quarantined.count(False),
            quarantined=quarantined.count(True),
            left=len(left),
            seconds=time.monotonic() - began,
        )
        return not left

    async def _give_back(self, works: list[Work], given_back: list[Work]) -> None:
        for work in works:
            work.cancel()
        tasks = {work.task for work in works if work.task is not None}
        if tasks:
            # A tool that does not let itself be cancelled is left behind.
            await asyncio.wait(tasks, timeout=_STUBBORN_SECONDS)
        async with asyncio.TaskGroup() as group:
            for work in works:
                if not work.decided and not work.lost:
                    given_back.append(work)
                    group.create_task(self._give_one_back(work))
        await self._inflight.wait_until_gone(work for work in works if work.decided and not work.ended)

    async def _give_one_back(self, work: Work) -> None:
        if work.token:
            failure = outcome_unknown("its worker was stopped before it ended")
            await self._completer.quarantine(work, "outcome_unknown", failure)
        else:
            await self._completer.release(work, reason="drain", at_once=True)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._store.reap(self.consumer, silent_ms=0)
        except (StoreError, TimeoutError) as exc:
            self._probe.outage("leave", exc)
        self._probe.worker_stopped(self.consumer)
