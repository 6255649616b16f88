"""One method for each thing that can happen; what it means in spans, metrics and lines is decided here."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from toolspan.model import NO_TRACE, OTHER_TOOL, Failed, TraceFields
from toolspan.redaction import Redactor
from toolspan.telemetry import attributes as at
from toolspan.telemetry import births, catalog, propagation
from toolspan.telemetry.callers import Calling, Replaying
from toolspan.telemetry.durations import Durations
from toolspan.telemetry.events import Events, log, redactor_failed
from toolspan.telemetry.instruments import Instruments, gauge
from toolspan.telemetry.losses import Losses
from toolspan.telemetry.particulars import Particulars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from opentelemetry._logs import Logger
    from opentelemetry.metrics import Meter
    from opentelemetry.trace import Tracer

    from toolspan.errors import MalformedEntryError
    from toolspan.keys import Keys
    from toolspan.model import (
        DeadLetter,
        DeadLetterReason,
        Delivery,
        GroupSnapshot,
        Order,
        Origin,
        Outcome,
        Run,
    )
    from toolspan.telemetry.catalog import Step
    from toolspan.telemetry.histograms import Histograms
    from toolspan.telemetry.spans import Spans

_NS: Final = 1_000_000_000


class Probe:
    """Told what happens by everybody; tells it to traces, metrics and logs, so that the three cannot disagree."""

    def __init__(
        self,
        *,
        keys: Keys,
        spans: Spans,
        consumer: str = "",
        tracer: Tracer | None = None,
        meter: Meter | None = None,
        logger: Logger | None = None,
        histograms: Histograms | None = None,
        group_meter: Callable[[], Meter | None] = lambda: None,
        export_metrics: Callable[[], None] = lambda: None,
        export_group: Callable[[], None] = lambda: None,
        server: dict[str, Any] | None = None,
        redact: Redactor | None = None,
    ) -> None:
        self.redact = redact or Redactor()
        """What every message and stack goes through before people get to read it."""
        self.redact.failed = redactor_failed
        self._keys = keys
        self._spans = spans
        self._consumer = consumer
        self._tracer = tracer
        self._meter = meter
        self._group_meter = group_meter
        self._export_metrics = export_metrics
        self.export_group = export_group
        """Export the group's gauges once, now; waits for the collector, but not for long."""
        self._server = server or {}
        self._instruments = Instruments(meter, histograms)
        self._events = Events(logger)
        self._particulars = Particulars(spans, consumer)
        self._losses = Losses(self._instruments, self._events, spans, self._particulars)
        self._served: set[str] = set()
        self._durations: dict[tuple[str, str, str], Durations] = {}
        self._outages: dict[str, _Outage] = {}
        self._outage_lock = threading.Lock()
        self._reply_template = keys.reply_prefix.removesuffix(":")
        # Only workers are given deliveries, and count them from their start on.
        self._received: _Readable = ([0], [0])
        self._claimed: _Readable = ([0], [0])
        self._lease_ns = self._renewed_ns = 0
        self.tracing = tracer is not None
        """Whether `execute` does anything."""
        self.execute = spans.execute
        self.executed = spans.executed
        self.traceparent = spans.traceparent
        self.reply_traceparent = spans.reply_traceparent
        self.worker_lost = spans.worker_lost
        self.knows_worker = spans.knows_worker

    # ── a worker's life ────────────────────────────────────────────────────────────────────────────────────────

    def worker_started(self, consumer: str, tools: Sequence[str], *, concurrency: int) -> None:
        """We are registered and about to take calls in; what `catalog.BORN_AT_ZERO` says is done before we do."""
        births.of_worker(self._instruments, tools, replies=self._reply_template)
        self._received, self._claimed = self._consumed("receive"), self._consumed("claim")
        self._export_metrics()
        log.info("worker.started", consumer=consumer, tools=list(tools), concurrency=concurrency)

    def worker_stopped(self, consumer: str) -> None:
        """We have left the group."""
        log.info("worker.stopped", consumer=consumer)

    def drain_started(self, consumer: str, held: int) -> None:
        """We take nothing more and finish what we hold."""
        self._events.emit(
            "drain.started",
            event="toolspan.drain.started",
            level="info",
            attributes={at.CLIENT_ID: consumer},
            consumer=consumer,
            held=held,
        )

    def drain_finished(self, consumer: str, *, released: int, quarantined: int, left: int, seconds: float) -> None:
        """Nothing more is done: calls were given back, quarantined for they may not run twice, or left to others."""
        self._events.emit(
            "drain.finished",
            event="toolspan.drain.finished",
            level="info",
            attributes={at.CLIENT_ID: consumer},
            consumer=consumer,
            released=released,
            quarantined=quarantined,
            left=left,
            seconds=round(seconds, 3),
        )

    def group_created(self) -> None:
        """The consumer group was missing, and was made anew."""
        log.info("group.created", group=self._keys.group, stream=self._keys.calls)

    def observe_worker(
        self,
        *,
        inflight: Callable[[], int],
        room: Callable[[], int],
        abandoned: Callable[[], int],
        waiting: Callable[[], Mapping[str, int]],
        heartbeat_age: Callable[[], float | None],
        poll_age: Callable[[], float | None],
    ) -> None:
        """Export how full this worker is and when it last showed a sign of life, asking the given functions."""
        if self._meter is None:
            return
        for metric, read in (
            (catalog.INFLIGHT, inflight),
            (catalog.ROOM, room),
            (catalog.ABANDONED, abandoned),
            (catalog.HEARTBEAT_AGE, heartbeat_age),
            (catalog.POLL_AGE, poll_age),
        ):
            gauge(self._meter, metric, _known(read))
        gauge(self._meter, catalog.WAITING, lambda: [(count, (tool,)) for tool, count in waiting().items()])

    def leases_renewed(self, *, asked_ns: int, lease_ms: int) -> None:
        """A heartbeat was accepted that was sent at *asked_ns*: what was held then is ours for a lease from there."""
        self._lease_ns, self._renewed_ns = lease_ms * _NS // 1000, asked_ns

    def loop_lagged(self, seconds: float) -> None:
        """The event loop woke up so much later than it was asked to."""
        self._instruments.loop_lag.record(seconds)

    def loop_stalled(self, *, seconds: float, stack: str) -> None:
        """The event loop stands still: a worker's for longer than a lease, and nothing is renewed until it goes on."""
        stack = self.redact(stack)
        self._events.emit(
            "loop.stalled",
            event="toolspan.loop.stalled",
            level="error",
            attributes={at.CLIENT_ID: self._consumer, at.EXCEPTION_STACKTRACE: stack},
            consumer=self._consumer,
            seconds=round(seconds, 3),
            stack=stack,
        )

    def process_stood_still(self, *, seconds: float) -> None:
        """Not the event loop alone stood still but the whole process, for as long as a stall takes to be told."""
        log.warning(
            "process.stood_still",
            consumer=self._consumer,
            seconds=round(seconds, 3),
            meaning="it was stopped, or its machine slept: nothing has blocked the event loop",
        )

    def bug(self, step: str, error: BaseException) -> None:
        """An exception of ours was survived; a person should look."""
        log.error("toolspan.failed", step=step, exc_info=error)

    # ── deliveries ─────────────────────────────────────────────────────────────────────────────────────────────

    def received(self, *, began_ns: int, ended_ns: int) -> None:
        """A read gave us entries. They are counted one by one when work on them begins, see `began`."""
        seconds = (ended_ns - began_ns) / _NS
        self._instruments.operation_duration.record(seconds, "receive", "receive", self._keys.calls, "", "")

    def began(self, run: Run) -> None:
        """A delivery was decoded, and work on it begins; how it came to us is told with it."""
        if self.tracing:
            self._spans.begin(run)
        delivery = run.delivery
        if delivery.owner is not None and delivery.loss is not None:
            self._claimed[run.call is None][0] += 1
            self._losses.claimed(run, delivery.owner, delivery.loss)
        elif delivery.origin == "retry":
            self._claimed[run.call is None][0] += 1
            self._instruments.unparked.add(run.tool)
            log.debug("delivery.unparked", **self._particulars.line(run))
        else:
            self._received[run.call is None][0] += 1

    def found(self, deliveries: Sequence[Delivery], failure: BaseException) -> None:
        """Among what we hold were *deliveries* whose hand-over we had not heard of, because of *failure*.

        They are counted and told of when work on them begins, as all others are.
        """
        if deliveries:
            log.warning("deliveries.found", count=len(deliveries), after=type(failure).__name__)

    def orphans_claimed(self, first: Delivery, count: int) -> None:
        """We took over *count* calls of one worker in one round, *first* among them."""
        log.warning("orphans.claimed", owner=first.owner, reason=first.loss, count=count, consumer=self._consumer)

    def settled(self, runs: Sequence[Run], *, began_ns: int, ended_ns: int) -> None:
        """The replies of *runs* were written in one step, and the calls acknowledged."""
        counters, calls = self._instruments, self._keys.calls
        if self._meter is not None:
            example = next((found for run in runs if (found := self._spans.sampled(run)) is not None), None)
            seconds = (ended_ns - began_ns) / _NS
            counters.operation_duration.record(seconds, "settle", "settle", calls, "", "", sampled=example)
        told = log.is_enabled_for(_DEBUG)
        # Of a batch, most are alike: what is counted of them is added once.
        alike: dict[tuple[str, Origin, str, bool], list[Run]] = {}
        for run in runs:
            call, outcome = run.call, "ok"
            if isinstance(run.outcome, Failed):
                outcome = run.outcome.type
                self._raised(run)
                self._wasted(run, outcome)
            kind = (run.tool, run.delivery.origin, outcome, call is not None and call.reply_to is not None)
            known = alike.get(kind)
            if known is None:
                alike[kind] = [run]
            else:
                known.append(run)
            if told:
                log.debug("call.settled", **self._particulars.line(run), outcome=outcome)
        for (tool, origin, outcome, replied), group in alike.items():
            count = len(group)
            self._measured(group, outcome, ended_ns=ended_ns, batch=len(runs), settled=True)
            counters.calls.add(tool, outcome, count=count)
            counters.attempts.add(tool, origin, outcome, count=count)
            if replied:
                counters.sent.add("send", "", self._reply_template, "", count=count)

    def settle_failed(self, error: BaseException, *, began_ns: int, ended_ns: int) -> None:
        """Redis failed the step that writes replies and acknowledges; it is tried again."""
        seconds = (ended_ns - began_ns) / _NS
        of = ("settle", "settle", self._keys.calls, "", type(error).__name__)
        self._instruments.operation_duration.record(seconds, *of)

    def progressed(self, count: int) -> None:
        """*count* progress replies were written."""
        if count:
            self._instruments.sent.add("send", "", self._reply_template, "", count=count)

    def retried(self, run: Run, *, failure: Failed, delay_ms: int) -> None:
        """An attempt failed, and the call waits for its next one."""
        run.outcome = failure
        log.info("attempt.retried", **self._particulars.line(run), error_type=failure.type, delay_ms=delay_ms)
        self._raised(run)
        self._attempted(run, "retried")

    def released(self, run: Run, *, reason: str, delay_ms: int) -> None:
        """A call was given back without an attempt having counted."""
        log.info("delivery.released", **self._particulars.line(run), reason=reason, delay_ms=delay_ms)
        if not run.tool_began_ns:
            # The same attempt may come back to us: its span is that of the run that is still to be.
            self._spans.drop(run)
        self._attempted(run, "released")

    def isolated(self, delivery: Delivery, *, waited: float) -> None:
        """A suspect's last attempt began alone, for which the worker had to wait, and nothing else is taken in."""
        log.info("delivery.isolated", entry_id=delivery.entry_id, attempt=delivery.attempt, waited=round(waited, 3))

    def not_admitted(self, run: Run, *, delay_ms: int) -> None:
        """A call was given back because it could not begin in time: a limit was in its way, or no thread was free."""
        if log.is_enabled_for(_DEBUG):
            log.debug("delivery.not_admitted", **self._particulars.line(run), delay_ms=delay_ms)
        self._spans.drop(run)
        self._attempted(run, "released")

    def held_back(self, run: Run, tool: str) -> None:
        """A call was given back without an attempt having counted, for its *tool* is paused."""
        if log.is_enabled_for(_DEBUG):
            log.debug("delivery.held_back", **self._particulars.line(run), paused=tool)
        if not run.tool_began_ns:
            self._spans.drop(run)
        self._attempted(run, "released")

    def stale(self, run: Run) -> None:
        """Somebody else holds the call by now: our result was refused and dropped."""
        self._wasted(run, "")
        self._instruments.stale_results.add(run.tool)
        self._event(run, "result.refused", event="toolspan.stale_result", level="warning")
        self._spans.drop(run)

    def lease_lost(self, run: Run) -> None:
        """A heartbeat told us that a call is no longer ours; its run was cancelled."""
        self._wasted(run, "")
        self._instruments.stale_results.add(run.tool)
        self._event(run, "lease.lost", event="toolspan.lease.lost", level="warning")
        self._spans.drop(run)

    def dead_lettered(
        self,
        run: Run,
        letter_id: str,
        *,
        reason: DeadLetterReason,
        failure: Failed,
        letter: Mapping[str, str],
        replied: bool,
        malformed: MalformedEntryError | None = None,
    ) -> None:
        """A call was moved to the dead letters as *letter*, and its caller *replied* to if there is one.

        *letter_id* is empty where the answer was lost that said it; *malformed* has what can be read of a call that
        cannot be decoded.
        """
        self._instruments.dead_letters.add(run.tool, reason)
        self._instruments.calls.add(run.tool, failure.type)
        self._wasted(run, failure.type)
        if replied:
            self._instruments.sent.add("send", "", self._reply_template, "")
        if not run.delivery.counted:
            self._losses.passed(run)
        context = self._spans.context(run)
        self._raised(run)
        self._attempted(run, failure.type, replied=replied)
        self._events.emit(
            "delivery.quarantined",
            event="toolspan.dead_letter",
            level="error",
            context=context,
            attributes={
                **self._particulars.attributes(run, malformed),
                at.LETTER_ID: letter_id or None,
                **self._seen_of(letter),
            },
            **self._particulars.fields(run, malformed),
            dead_letter=letter_id or None,
            reason=reason,
            error_type=failure.type,
            message=failure.message,
        )

    def _seen_of(self, letter: Mapping[str, str]) -> dict[str, str]:
        """Give what may be seen of a dead letter: the result of a tool only where results may."""
        seen, captured = dict(letter), self._spans.captured
        if "dlq.reply" in seen:
            reply = seen.pop("dlq.reply")
            if captured is not None:
                seen["dlq.reply"] = captured(reply)
        return seen

    def call_lost(self, entry_id: str, *, owner: str, attempt: int, reason: str) -> None:
        """The body of a call that *owner* held was deleted by somebody: nothing is left to run or to answer.

        Nor is there anything that says which call it was, and in which trace.
        """
        self._instruments.lost.add(reason)
        attributes = {at.MESSAGE_ID: entry_id, at.ATTEMPT: attempt, at.CLIENT_ID: owner, at.REASON: reason}
        self._events.emit(
            "call.lost",
            event="toolspan.call.lost",
            level="error",
            attributes=attributes,
            attempt=attempt,
            consumer=owner,
            entry_id=entry_id,
            reason=reason,
        )

    # ── the fleet ──────────────────────────────────────────────────────────────────────────────────────────────

    def reaped(self, consumer: str) -> None:
        """A dead consumer that held nothing was deleted from the group."""
        self._instruments.reaps.add()
        attributes = {at.CLIENT_ID: consumer}
        self._events.emit(
            "consumer.reaped", event="toolspan.reap", level="info", attributes=attributes, consumer=consumer
        )

    def outage(self, step: Step, error: BaseException) -> None:
        """Redis failed *step*, once more: every error counts, but an outage is one line."""
        self._instruments.redis_errors.add(type(error).__name__, step)
        with self._outage_lock:
            outage = self._outages.setdefault(step, _Outage(time.monotonic()))
            outage.failures += 1
            first = outage.failures == 1
        if first:
            self._events.emit(
                "redis.down",
                event="toolspan.redis.down",
                level="error",
                attributes={at.CLIENT_ID: self._consumer, at.ROLE: step, at.ERROR_TYPE: type(error).__name__},
                step=step,
                error=self.redact(str(error)),
            )

    def recovered(self, step: Step) -> None:
        """Redis did *step*; if it failed before, the outage is over."""
        if not self._outages:
            return
        with self._outage_lock:
            outage = self._outages.pop(step, None)
        if outage is not None:
            self._events.emit(
                "redis.up",
                event="toolspan.redis.up",
                level="info",
                attributes={at.CLIENT_ID: self._consumer, at.ROLE: step},
                step=step,
                seconds=round(time.monotonic() - outage.since, 3),
                failures=outage.failures,
            )

    def observe_group(
        self, snapshot: Callable[[], GroupSnapshot | None], snapshot_age: Callable[[], float | None]
    ) -> None:
        """Export the group's gauges from what *snapshot* gives; nothing is exported while that is None."""
        meter = self._group_meter()
        if meter is None:
            return
        here = (self._keys.calls, self._keys.group)
        for metric, name, values in (
            (catalog.GROUP_UNDELIVERED, "undelivered", here),
            (catalog.GROUP_PENDING, "pending", here),
            (catalog.GROUP_PARKED, "parked", here),
            (catalog.GROUP_CONSUMERS, "consumers", here),
            (catalog.GROUP_LENGTH, "length", here),
            (catalog.OLDEST_UNDELIVERED_AGE, "oldest_undelivered_age", ()),
            (catalog.OLDEST_PENDING_AGE, "oldest_pending_age", ()),
            (catalog.DLQ_LENGTH, "dead_letters", ()),
            (catalog.DLQ_OLDEST_AGE, "oldest_dead_letter_age", ()),
        ):
            gauge(meter, metric, _field(snapshot, name, values))

        def workers() -> Iterable[tuple[float, tuple[str, ...]]]:
            figures = snapshot()
            if figures is not None:
                counts = (figures.live_workers, figures.draining_workers, figures.silent_workers)
                for state, count in zip(("live", "draining", "silent"), counts, strict=True):
                    if count is not None:
                        yield count, (state,)

        def by_attempt() -> Iterable[tuple[float, tuple[str, ...]]]:
            figures = snapshot()
            if figures is not None and figures.pending_by_attempt is not None:
                for attempt, count in zip(catalog.ATTEMPTS_OF_PENDING, figures.pending_by_attempt, strict=True):
                    yield count, (attempt,)

        gauge(meter, catalog.GROUP_PENDING_BY_ATTEMPT, by_attempt)
        gauge(meter, catalog.SNAPSHOT_AGE, _known(snapshot_age))
        gauge(meter, catalog.WORKERS, workers)

    # ── callers and operators ──────────────────────────────────────────────────────────────────────────────────

    def calling(
        self,
        *,
        tool: str,
        call_id: str,
        calls: str | None = None,
        tool_call_id: str | None = None,
        parent: TraceFields | None = None,
    ) -> AbstractContextManager[Calling]:
        """Watch one call of ours: entered before it is sent, left when there is nothing more to wait for.

        *calls* is the stream that it goes to, if that is another than ours.
        """
        return Calling(
            self._tracer,
            self._instruments,
            self._server,
            calls=calls or self._keys.calls,
            tool=tool,
            call_id=call_id,
            tool_call_id=tool_call_id,
            parent=parent,
            served=self._served,
            redact=self.redact,
        )

    def answers_read(self, count: int, *, malformed: int, began_ns: int, ended_ns: int) -> None:
        """A read of our reply stream gave *count* replies, of which some cannot be read."""
        self._instruments.consumed.add("receive", "", self._reply_template, "", "", count=count - malformed)
        if malformed:
            self._instruments.consumed.add("receive", "", self._reply_template, "", "malformed", count=malformed)
        seconds = (ended_ns - began_ns) / _NS
        self._instruments.operation_duration.record(seconds, "receive", "receive", "", self._reply_template, "")

    def serving(self, host: str, port: int) -> None:
        """The gateway listens; its counters are there from here on."""
        births.of_gateway(self._instruments, calls=self._keys.calls, replies=self._reply_template)
        log.info("gateway.started", host=host, port=port)

    def serving_no_more(self) -> None:
        """The gateway has answered or refused every call, and is gone."""
        log.info("gateway.stopped")

    def monitoring(self) -> None:
        """The monitor reports from now on, when it is elected."""
        births.of_monitor(self._instruments)
        log.info("monitor.started", instance=self._consumer, stream=self._keys.stream)

    def monitoring_no_more(self) -> None:
        """The monitor is gone."""
        log.info("monitor.stopped", instance=self._consumer)

    def unprotected(self, host: str) -> None:
        """The gateway listens where others can reach it, and asks nobody who he is."""
        log.warning("gateway.unprotected", host=host, meaning="whoever reaches this address may call every tool")

    def tokens_read(self, count: int) -> None:
        """The file of tokens has changed, and counts from now on."""
        log.info("tokens.read", tokens=count)

    def tokens_refused(self, why: str) -> None:
        """The file of tokens has changed and cannot be used; the old ones go on to count."""
        log.error("tokens.refused", why=why, meaning="the tokens read before go on to count")

    def replaying(self, letter: DeadLetter, call_id: str, tool: str) -> Replaying:
        """Watch an operator put a dead letter back on the stream."""
        return Replaying(self._tracer, self._keys, self._server, letter=letter, call_id=call_id, tool=tool)

    def replayed(self, letter: DeadLetter, call_id: str, entry_id: str, *, replaying: Replaying) -> None:
        """An operator put a dead letter back on the stream."""
        self._instruments.replays.add("replayed")
        attributes = {at.CONVERSATION_ID: call_id, at.MESSAGE_ID: entry_id, at.TOOL_NAME: replaying.tool}
        attributes[at.CLIENT_ID] = self._consumer
        attributes |= {at.LETTER_ID: letter.id, "dlq.id": letter.entry_id}
        self._events.emit(
            "dead_letter.replayed",
            event="toolspan.replay",
            level="info",
            context=propagation.context_in(replaying.trace),
            attributes=attributes,
            dead_letter=letter.id,
            call_id=call_id,
            entry_id=entry_id,
            tool=replaying.tool,
        )

    def refused_replay(self, letter_id: str, why: str) -> None:
        """A dead letter was not replayed."""
        self._instruments.replays.add("refused")
        log.warning("dead_letter.refused", dead_letter=letter_id, why=why)

    def discarded(
        self, letter_id: str, letter: DeadLetter | None, why: str, *, call_id: str | None = None, tool: str = OTHER_TOOL
    ) -> None:
        """An operator threw a dead letter away; *letter* is None for one that cannot be read."""
        attributes: dict[str, Any] = {at.LETTER_ID: letter_id, at.CLIENT_ID: self._consumer}
        trace = TraceFields(letter.traceparent) if letter else NO_TRACE
        if letter:
            attributes |= {"dlq.id": letter.entry_id, "dlq.reason": letter.reason}
            attributes |= {at.MESSAGE_ID: letter.entry_id, at.CONVERSATION_ID: call_id, at.TOOL_NAME: tool}
        self._events.emit(
            "dead_letter.discarded",
            event="toolspan.discard",
            level="info",
            context=propagation.context_in(trace),
            attributes=attributes,
            dead_letter=letter_id,
            call_id=call_id,
            tool=tool,
            why=why,
        )

    def purged(self, count: int, *, up_to: str, who: str) -> None:
        """The dead letters up to the id *up_to* were deleted, for they were old."""
        log.info("dead_letter.purged", count=count, up_to=up_to, who=who)

    def paused(self, tool: str, *, who: str, why: str) -> None:
        """An operator has the calls of *tool* wait."""
        self._asked("tool.paused", "toolspan.pause", {at.TOOL_NAME: tool}, tool=tool, who=who, why=why)

    def resumed(self, tool: str, *, who: str, why: str, hastened: int) -> None:
        """An operator has the calls of *tool* run again; *hastened* is how many parked ones became due with that."""
        attributes = {at.TOOL_NAME: tool}
        self._asked("tool.resumed", "toolspan.resume", attributes, tool=tool, who=who, why=why, hastened=hastened)

    def asked_to_drain(self, consumer: str, *, who: str, why: str) -> None:
        """An operator has asked a worker to finish what it holds and go."""
        attributes = {at.CLIENT_ID: consumer}
        self._asked("drain.asked", "toolspan.drain", attributes, consumer=consumer, who=who, why=why)

    def _asked(self, line: str, event: str, attributes: dict[str, Any], **fields: Any) -> None:
        self._events.emit(line, event=event, level="info", attributes=attributes, **fields)

    def heard_pause(self, tool: str, order: Order) -> None:
        """This worker has heard that a tool is paused."""
        log.info("pause.heard", tool=tool, who=order.who, why=order.why)

    def heard_resume(self, tool: str) -> None:
        """This worker has heard that a tool is paused no more."""
        log.info("resume.heard", tool=tool)

    # ── details ────────────────────────────────────────────────────────────────────────────────────────────────

    def _attempted(self, run: Run, outcome: str, *, replied: bool = False) -> None:
        """Count and record an attempt that ended in another way than by being settled."""
        if run.delivery.counted:
            self._instruments.attempts.add(run.tool, run.delivery.origin, outcome)
        self._measured([run], outcome, ended_ns=time.monotonic_ns(), sent=replied)

    def _consumed(self, operation: str) -> _Readable:
        """Give what counts the deliveries of one kind: those that can be read, and those that cannot."""
        of = (operation, self._keys.calls, "", self._keys.group)
        counter = self._instruments.consumed
        return counter.cell(*of, ""), counter.cell(*of, "malformed")

    def _measured(
        self,
        runs: Sequence[Run],
        outcome: str,
        *,
        ended_ns: int,
        batch: int = 1,
        sent: bool = True,
        settled: bool = False,
    ) -> None:
        """Record how long all of *runs* took, which are alike, where anybody listens."""
        if self._meter is not None:
            first = runs[0]
            error = _error_of(first.outcome)
            kind = (first.tool, error, error if first.unsent is None else _error_of(first.unsent))
            durations = self._durations.get(kind)
            if durations is None:
                durations = self._durations[kind] = Durations(self._instruments, self._keys, *kind)
            examples = self._spans.examples(runs)
            durations.record(runs, examples, ended_ns=ended_ns)
            if settled and self._lease_ns:
                durations.record_margin(
                    runs, examples, ended_ns=ended_ns, lease_ns=self._lease_ns, renewed_ns=self._renewed_ns
                )
        if self.tracing:
            self._spans.end(runs, outcome=outcome, ended_ns=ended_ns, batch=batch, sent=sent)

    def _wasted(self, run: Run, outcome: str) -> None:
        """Count how long a tool ran for nobody, so far if it goes on."""
        if run.tool_began_ns and outcome in catalog.WASTES:
            seconds = ((run.tool_ended_ns or time.monotonic_ns()) - run.tool_began_ns) / _NS
            self._instruments.wasted.add(run.tool, catalog.WASTES[outcome], count=seconds)

    def _raised(self, run: Run) -> None:
        """Tell of the exception that a run ended with, if it did."""
        failure = run.outcome
        if isinstance(failure, Failed) and failure.stack:
            of_tool = failure.type == "tool_error"
            kind = failure.detail["exception"]
            event = "gen_ai.execute_tool.exception" if of_tool else "messaging.process.exception"
            context = self._spans.context(run, tool=of_tool)
            about = self._particulars.attributes(run)
            self._events.exception(event, failure.stack, failure.message, kind=kind, context=context, about=about)

    def _event(self, run: Run, line: str, *, event: str, level: str) -> None:
        context = self._spans.context(run)
        attributes, fields = self._particulars.attributes(run), self._particulars.fields(run)
        self._events.emit(line, event=event, level=level, context=context, attributes=attributes, **fields)


@dataclass(slots=True)
class _Outage:
    """A step that Redis fails, *since* when by the monotonic clock."""

    since: float
    failures: int = 0


_DEBUG: Final = 10
_Readable: TypeAlias = tuple[list[float], list[float]]
"""What counts deliveries that can be read, and those that cannot."""


def _error_of(outcome: Outcome | None) -> str:
    return outcome.type if isinstance(outcome, Failed) else ""


def _known(read: Callable[[], float | None]) -> Callable[[], Iterable[tuple[float, tuple[str, ...]]]]:
    """Give what *read* gives as the one point of a gauge, and none where that is None."""

    def points() -> Iterable[tuple[float, tuple[str, ...]]]:
        value = read()
        return [] if value is None else [(value, ())]

    return points


def _field(
    snapshot: Callable[[], GroupSnapshot | None], name: str, values: tuple[str, ...]
) -> Callable[[], Iterable[tuple[float, tuple[str, ...]]]]:
    def read() -> Iterable[tuple[float, tuple[str, ...]]]:
        figures = snapshot()
        value = None if figures is None else getattr(figures, name)
        return [] if value is None else [(value, values)]

    return read
