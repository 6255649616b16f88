"""ToolExecConsumer: the engine for programs that bring their own `process_fn` and reply by themselves."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from toolspan.codec import trace_of
from toolspan.errors import MalformedEntryError, SettingsError
from toolspan.model import OTHER_TOOL, Failed, Succeeded, ToolCall
from toolspan.redaction import Redactor
from toolspan.settings import Settings
from toolspan.store import Connection
from toolspan.telemetry.setup import start
from toolspan.worker.containment import Raised, contained, failed
from toolspan.worker.engine import Engine, consumer_name
from toolspan.worker.processor import jittered_ms, kept_apart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from toolspan.store import Redis
    from toolspan.telemetry.probe import Probe
    from toolspan.telemetry.setup import Telemetry
    from toolspan.worker.inflight import Work
    from toolspan.worker.roles import Parts

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

    Raises:
        TypeError: if *process_fn* is not `async def`.
        SettingsError: with one line for each setting that cannot be used.
    """

    def __init__(
        self,
        redis: Redis,
        consumer_name: str,
        process_fn: Callable[[dict[str, Any]], Awaitable[None]],
        autoclaim_interval: float = 30.0,
        autoclaim_min_idle: int = 60_000,
    ) -> None:
        _refuse_unless_awaitable(process_fn)
        if not autoclaim_interval > 0:
            message = f"autoclaim_interval: must be a number of seconds, more than 0, not {autoclaim_interval}"
            raise SettingsError(message)
        try:
            self._settings = Settings.load(lease_ms=autoclaim_min_idle)
        except SettingsError as exc:
            raise SettingsError(str(exc).replace("TOOLSPAN_LEASE_MS", "autoclaim_min_idle")) from None
        self._redis = redis
        self._label = consumer_name
        self._process_fn = process_fn
        self._autoclaim_interval = autoclaim_interval
        self._engine: Engine | None = None
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the group and begin to take calls in; returns once registered.

        Raises:
            StoreError: if Redis cannot be used.
            LeaseMismatchError: if another live worker has a different lease.
            RuntimeError: if it is running already.
        """
        if self._running is not None and not self._running.done():
            message = "this consumer is running already: stop it before it is started again"
            raise RuntimeError(message)
        me = consumer_name(self._label)
        settings = self._settings
        connection = Connection.like(self._redis)
        telemetry = start(
            "worker",
            keys=settings.keys,
            instance_id=me,
            server=connection.address,
            link_only=settings.link_only,
            capture_args=settings.capture_args,
            redact=Redactor.named(settings.redact),
        )
        engine = Engine(
            connection,
            settings,
            telemetry.probe,
            lambda parts: PayloadProcessor(
                parts, self._process_fn, telemetry.probe, max_attempts=settings.max_attempts
            ),
            me=me,
            tools={},
            sweep_seconds=self._autoclaim_interval,
        )
        running = asyncio.create_task(_run(engine, connection, telemetry), name=me)
        running.add_done_callback(lambda _: engine.ready.set())
        self._engine, self._running = engine, running
        try:
            await engine.ready.wait()
        except asyncio.CancelledError:
            await self.stop()
            raise
        if running.done():
            self._engine = self._running = None
            running.result()

    async def stop(self) -> None:
        """Finish what is held, up to the drain's deadline, give the rest back, and leave the group.

        Cancelling this does not cut the drain short; stopping once more waits for its end.
        """
        if self._engine is not None:
            # Only once: a second time would cut the drain short.
            self._engine.stop()
            self._engine = None
        running = self._running
        if running is None:
            return
        await asyncio.wait({running})
        if self._running is running:
            self._running = None
        running.result()


async def _run(engine: Engine, connection: Connection, telemetry: Telemetry) -> None:
    try:
        await engine.run()
    finally:
        await connection.aclose()
        await asyncio.to_thread(telemetry.shutdown)


def _refuse_unless_awaitable(process_fn: object) -> None:
    """Refuse what is no `async def`; a lambda, or what says that it returns something, may give an awaitable."""
    function: Any = process_fn
    while isinstance(function, partial):
        function = function.func
    if callable(function) and not inspect.isroutine(function) and not inspect.iscoroutinefunction(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    if inspect.iscoroutinefunction(function):
        return
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if callable(function) and not yields:
        says = (getattr(function, "__annotations__", None) or {}).get("return")
        if says not in (None, "None") or getattr(function, "__name__", "") == "<lambda>":
            return
    message = f"process_fn must be `async def process_fn(payload)`, not {process_fn!r}"
    raise TypeError(message)


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

    def begin(self, work: Work) -> Coroutine[Any, Any, None]:
        """Hand the payload over; settle without a reply, try again later, or quarantine; see `Process`."""
        return self.contained(work, self._process(work))

    def contained(self, work: Work, story: Awaitable[None]) -> Coroutine[Any, Any, None]:
        """Work on a delivery by another *story* than our own; see `Process`."""
        return kept_apart(work, story, self._probe, self._parts.completer, self._try_again)

    async def _process(self, work: Work) -> None:
        delivery = work.run.delivery
        completer = self._parts.completer
        try:
            payload = self._parts.codec.decode_payload(delivery.fields)
        except MalformedEntryError as exc:
            self._probe.began(work.run)
            await completer.quarantine(
                work, "malformed", Failed("malformed", self._probe.redact(str(exc))), malformed=exc
            )
            return
        call = self._described(work, payload)
        work.run.is_of(call)
        self._probe.began(work.run)
        if work.verdict is not None:
            await completer.quarantine(work, work.verdict.reason, work.verdict.failure)
            return
        if call.id in self._parts.cancellations:
            completer.cancel(work)
            return
        if call.tool in self._parts.controls.paused:
            # The program answers its callers itself, also those whose deadline has passed.
            if not await completer.hold_back(work, call.tool):
                self._parts.controls.forget(call.tool)
            return
        failure = await self._hand_over(work, payload)
        if failure is None:
            work.run.outcome = Succeeded(b"null")
            completer.settle(work)
        else:
            await self._try_again(work, failure)

    async def _hand_over(self, work: Work, payload: dict[str, Any]) -> Failed | None:
        """Let the program work, and tell what it raised."""
        run = work.run
        entered = self._probe.execute(run)
        run.tool_began_ns = time.monotonic_ns()
        try:
            result = await contained(run, work.task, self._program(payload))
        finally:
            run.tool_ended_ns = time.monotonic_ns()
            self._probe.executed(entered)
        if not isinstance(result, Raised):
            return None
        return failed("worker_error", result.error, self._probe.redact, retryable=True)

    async def _program(self, payload: dict[str, Any]) -> None:
        # What gives an awaitable may raise before it does.
        await self._process_fn(payload)

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
