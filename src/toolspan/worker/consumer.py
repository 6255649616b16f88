"""ToolExecConsumer: the engine for programs that bring their own `process_fn` and reply by themselves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toolspan.codec import trace_of
from toolspan.errors import MalformedEntryError
from toolspan.model import OTHER_TOOL, Failed, Succeeded, ToolCall
from toolspan.settings import Settings
from toolspan.store import Connection
from toolspan.telemetry.setup import start
from toolspan.worker.containment import clip, stack_of
from toolspan.worker.engine import Engine, Parts, consumer_name
from toolspan.worker.processor import jittered_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from toolspan.store import Redis
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import Work

_BACKOFF = (1.0, 60.0)


class ToolExecConsumer:
    """Hands each call of the stream to *process_fn*, which replies by itself; its calls are settled without a reply.

    *process_fn* is given the JSON object of the entry's `payload` as it is, or the entry's fields as a dict with
    `args` decoded. If it raises, the call is tried again with growing delays, and dead-lettered as `max_attempts`
    after `TOOLSPAN_MAX_ATTEMPTS`. It replies outside the fence: for its callers, replies are at least once.

    *redis* says which server; we make connections of our own to it. *consumer_name* is a label: the name in the group
    is new at every start. *autoclaim_interval* is how often orphans are looked for, in seconds;
    *autoclaim_min_idle* is the lease, in milliseconds, and must be the same for all workers of the stream. Everything
    else comes from `TOOLSPAN_*`.
    """

    def __init__(
        self,
        redis: Redis,
        consumer_name: str,
        process_fn: Callable[[dict[str, Any]], Awaitable[None]],
        autoclaim_interval: float = 30.0,
        autoclaim_min_idle: int = 60_000,
    ) -> None:
        self._redis = redis
        self._label = consumer_name
        self._process_fn = process_fn
        self._autoclaim_interval = autoclaim_interval
        self._settings = Settings.load(lease_ms=autoclaim_min_idle)
        self._engine: Engine | None = None
        self._running: asyncio.Task[bool] | None = None
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Join the group and begin to take calls in; returns once registered.

        Raises:
            StoreError: if Redis cannot be used.
            LeaseMismatchError: if another live worker has a different lease.
        """
        me = consumer_name(self._label)
        self._connection = Connection.like(self._redis)
        self._telemetry = start("worker", keys=self._settings.keys, instance_id=me, server=self._connection.address)
        self._engine = Engine(
            self._connection,
            self._settings,
            self._telemetry.probe,
            self._processor,
            me=me,
            tools={},
            sweep_seconds=self._autoclaim_interval,
        )
        self._running = asyncio.create_task(self._engine.run(), name=me)
        ready = asyncio.create_task(self._engine.ready.wait())
        await asyncio.wait({ready, self._running}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._running.done():
            await self._close()
            self._running.result()

    async def stop(self) -> None:
        """Finish what is held, up to the drain's deadline, give the rest back, and leave the group."""
        if self._engine is None or self._running is None:
            return
        self._engine.stop()
        await self._running
        await self._close()

    async def _close(self) -> None:
        if self._connection is not None:
            await self._connection.aclose()
        await asyncio.to_thread(self._telemetry.shutdown)

    def _processor(self, parts: Parts) -> Callable[[Work], Coroutine[None, None, None]]:
        return PayloadProcessor(
            parts, self._process_fn, self._telemetry.probe, max_attempts=self._settings.max_attempts
        ).process


class PayloadProcessor:
    """The story of one delivery where the program itself decodes and replies."""

    def __init__(
        self,
        parts: Parts,
        process_fn: Callable[[dict[str, Any]], Awaitable[None]],
        probe: Probe,
        *,
        max_attempts: int,
    ) -> None:
        self._parts = parts
        self._process_fn = process_fn
        self._probe = probe
        self._max_attempts = max_attempts

    async def process(self, work: Work) -> None:
        """Hand the payload over; settle without a reply, try again later, or quarantine."""
        delivery = work.run.delivery
        completer = self._parts.completer
        try:
            payload = self._parts.codec.decode_payload(delivery.fields)
        except MalformedEntryError as exc:
            self._probe.began(work.run)
            await completer.quarantine(work, "malformed", Failed("malformed", str(exc)), malformed=exc)
            return
        work.run.call = self._described(work, payload)
        self._probe.began(work.run)
        if work.verdict is not None:
            await completer.quarantine(work, work.verdict.reason, work.verdict.failure)
            return
        try:
            with self._probe.executing(work.run):
                await self._process_fn(payload)
        except asyncio.CancelledError:
            if work.lost:
                self._probe.lease_lost(work.run)
            raise
        except Exception as exc:  # noqa: BLE001
            await self._try_again(work, Failed("worker_error", clip(repr(exc)), retryable=True, stack=stack_of(exc)))
            return
        work.run.outcome = Succeeded(b"null")
        await completer.settle(work)

    async def _try_again(self, work: Work, failure: Failed) -> None:
        work.run.outcome = failure
        attempt = work.run.delivery.attempt
        if attempt >= self._max_attempts:
            await self._parts.completer.quarantine(work, "max_attempts", failure)
        else:
            delay_ms = jittered_ms(attempt, first=_BACKOFF[0], longest=_BACKOFF[1])
            await self._parts.completer.retry(work, failure, delay_ms=delay_ms)

    def _described(self, work: Work, payload: dict[str, Any]) -> ToolCall:
        """Say what telemetry can know of a call that need not follow the protocol; nobody is answered by us."""
        delivery = work.run.delivery
        with suppress(MalformedEntryError):
            call = self._parts.codec.decode_call(delivery.entry_id, delivery.fields)
            if isinstance(call, ToolCall):
                return replace(call, reply_to=None)
        call_id = payload.get("id")
        tool = payload.get("tool")
        return ToolCall(
            call_id if isinstance(call_id, str) else delivery.entry_id,
            tool if isinstance(tool, str) else OTHER_TOOL,
            {},
            trace=trace_of(delivery.fields),
        )
