"""Start and shutdown order of the roles of a worker."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec import VERSION
from toolspan.errors import LeaseMismatchError, ServerFullError, StoreError
from toolspan.periodic import ended, every
from toolspan.store.keeper import Registration
from toolspan.worker.drain import Drain, left_once
from toolspan.worker.roles import Roles
from toolspan.worker.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from toolspan.model import ToolInfo
    from toolspan.periodic import Asked
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.telemetry.catalog import Step
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import Process
    from toolspan.worker.roles import Parts

_LONGEST_SWEEP: Final = 5.0
_LONGEST_DUE_SWEEP: Final = 1.0
_LONGEST_REAP: Final = 60.0
_LEAVE_SECONDS: Final = 1.0


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
        processor: Callable[[Parts], Process],
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

    def _asked_to_go(self) -> None:
        # A second time would cut the drain short.
        if not self._stopping.is_set():
            self.stop()

    def _begin_to_stop(self) -> None:
        self._vitals.drains()
        self._stopping.set()

    async def run(self) -> bool:
        """Work until `stop`, then drain; tell whether all that we held has got its end or was given back.

        Raises:
            StoreError: if Redis cannot be used at the start.
            LeaseMismatchError: if another live worker has a different lease.
        """
        self._roles = roles = Roles(
            self._connection,
            self._settings,
            self._probe,
            self._processor,
            me=self.consumer,
            vitals=self._vitals,
            to_go=partial(asyncio.get_running_loop().call_soon_threadsafe, self._asked_to_go),
        )
        try:
            if not await self._joined():
                return True
            async with self._heartbeater, asyncio.TaskGroup() as heart:
                runs = (
                    *(self._heartbeater.tick(), roles.listener(self._heartbeater).run(), roles.canceller.run()),
                    *(roles.admission.run(), *roles.completer.runs(), *roles.progress.runs()),
                )
                beating = [heart.create_task(run) for run in runs]
                await self._tell()
                await self._take_in()
                # Everybody may see at once that we go.
                self._heartbeater.hurry()
                drain = Drain(roles.inflight, roles.completer, self._probe, me=self.consumer, over=self._over)
                clean = await drain.finish()
                await ended(*beating)
        finally:
            # Only where we end otherwise than by a drain is anything left: others take it over.
            roles.inflight.abandon()
            roles.keeper.close()
        await self._leave()
        return clean

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
        await self._roles.store.synchronise()
        for worker in await self._roles.inspector.workers():
            if worker.live and worker.lease_ms != self._settings.lease_ms:
                message = (
                    f"{worker.consumer} runs with a lease of {worker.lease_ms} ms, we were given "
                    f"{self._settings.lease_ms}: set TOOLSPAN_LEASE_MS to the same for all workers of a stream"
                )
                raise LeaseMismatchError(message)
        try:
            if await self._roles.store.ensure_group():
                self._probe.group_created()
            await self._roles.store.look()
        except ServerFullError as exc:
            # The group may be there all the same; if it is not, the fetcher meets that.
            self._probe.outage("group", exc)
        self._heartbeater = self._roles.heartbeater(self._registration(), self._tools)
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
            inflight=lambda: len(self._roles.inflight),
            room=lambda: self._roles.inflight.room,
            abandoned=self._abandoned,
            waiting=self._roles.admission.waiting,
            heartbeat_age=lambda: self._vitals.heartbeat_age,
            poll_age=lambda: self._vitals.poll_age,
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
            start_ms=self._roles.store.clock.now_ms(),
            tools={info.name: digest for digest, info in self._tools.items()},
        )

    async def _take_in(self) -> None:
        """Take deliveries until told to stop; a read that is under way then still ends."""
        lease = self._settings.lease_ms / 1000
        probe, stopping = self._probe, self._stopping
        rounds: list[tuple[float, Callable[[], Awaitable[Asked]], Step, asyncio.Event | None]] = [
            (self._sweep_seconds, self._roles.reclaimer.sweep_orphans, "claim", self._roles.inflight.sweep_sooner),
            (
                min(lease / 4, _LONGEST_DUE_SWEEP),
                self._roles.reclaimer.sweep_due,
                "claim_due",
                self._roles.admission.recalled,
            ),
            (min(self._settings.reap_after_ms / 4000, _LONGEST_REAP), self._roles.reaper.sweep, "reap", None),
        ]
        async with asyncio.TaskGroup() as intake:
            taking = [intake.create_task(self._roles.fetcher.run(until=stopping), name="fetcher")]
            for seconds, sweep, step, sooner in rounds:
                sweeping = every(seconds, sweep, step=step, until=stopping, probe=probe, sooner=sooner)
                taking.append(intake.create_task(sweeping, name=step))
            await self._stopped_or_failed()
            # A read that Redis does not answer must not keep us: what it may have handed us, others find.
            await ended(*await left_once(self._over, *taking))

    async def _stopped_or_failed(self) -> None:
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({stopped, self._roles.inflight.failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            # Also where we are cancelled, or a task failed: nothing more is to be taken in.
            self._begin_to_stop()
            self._roles.inflight.close()
            self._roles.admission.close()
        if self._roles.inflight.failure.done():
            self._roles.inflight.failure.result()

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._roles.store.reap(self.consumer, silent_ms=0)
        except (StoreError, TimeoutError) as exc:
            self._probe.outage("leave", exc)
        self._probe.worker_stopped(self.consumer)
