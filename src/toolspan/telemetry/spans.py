"""The spans of a delivery: `process`, `execute_tool` and `send` of the reply, with those of a lost attempt."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace import set_span_in_context as with_span

from toolspan.codec import dumps
from toolspan.model import NO_TRACE, OTHER_TOOL, Failed, Succeeded
from toolspan.telemetry import attributes as at
from toolspan.telemetry import clock, propagation
from toolspan.telemetry.ghosts import Ghosts
from toolspan.telemetry.histograms import Sampled
from toolspan.telemetry.ids import span_id_of, trace_id_of
from toolspan.telemetry.sampling import is_kept, keeping
from toolspan.telemetry.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Tracer

    from toolspan.keys import Keys
    from toolspan.model import Attempt, LossReason, Origin, Outcome, Run
    from toolspan.telemetry.histograms import Example
    from toolspan.telemetry.ids import DerivedIds

Entered: TypeAlias = "Token[Context] | None"
"""What has to be known to leave a context again; None if none was entered."""

NOT_AN_ERROR: Final = frozenset({"deadline_exceeded", "cancelled"})
"""Ways for a call to fail that say nothing bad of the worker."""

_LONGEST_CAPTURED: Final = 8_192
"""Characters of arguments or of a result that a span carries at most."""


@dataclass(slots=True)
class Recording:
    """The spans of one run that are open."""

    process: Span
    context: Context
    call_id: str
    common: dict[str, Any]
    offset_ns: int
    """What turns a moment of the run into unix time."""
    before: SpanContext | None = None
    tool: Span | None = None
    reply: Span | None = None

    def at(self, monotonic_ns: int) -> int:
        """Unix time in nanoseconds of a moment of the run; now, if it is 0."""
        return self.offset_ns + (monotonic_ns or time.monotonic_ns())


class Spans:
    """Makes the spans of one worker. Without a tracer it makes none, and costs nothing."""

    def __init__(
        self,
        tracer: Tracer | None,
        *,
        ids: DerivedIds | None,
        ended: SpanProcessor | None,
        resource: Resource | None,
        keys: Keys,
        consumer: str,
        server: dict[str, Any],
        link_only: bool,
        captured: Callable[[str], str] | None,
    ) -> None:
        self._tracer = tracer
        self._ids = ids
        self._ghosts = Ghosts(ended, resource, calls=keys.calls, group=keys.group, link_only=link_only)
        self.worker_lost = self._ghosts.know
        self.knows_worker = self._ghosts.knows
        self._calls = keys.calls
        self._group = keys.group
        self._reply_template = keys.reply_prefix.removesuffix(":")
        self._consumer = consumer
        self._server = {at.SYSTEM: "redis", **server}
        self._link_only = link_only
        self.captured = captured
        """What arguments and results go through on their way to a span; None: they do not go there."""

    def begin(self, run: Run) -> None:
        """Start the `process` span of *run*, in the trace of whoever sent the call."""
        if self._tracer is None:
            return
        delivery, call = run.delivery, run.call
        call_id = call.id if call else delivery.entry_id
        trace = call.trace if call else NO_TRACE
        producer = propagation.span_context(trace)
        common = self._common(run, call_id)
        links = [Link(producer)] if producer else []
        parent = propagation.with_baggage(trace, otel_context.Context())
        trace_id = trace_id_of(call_id)
        if producer is not None and not self._link_only:
            parent, trace_id = propagation.context_of(producer, parent), producer.trace_id
        before = self._before(run, call_id, trace_id)
        if before is not None:
            links.append(Link(before))
        if is_kept(run):
            parent = keeping(parent)
        # What ends without a start has the attempt of the one that was lost, whose id is taken.
        self._use(run, call_id, "" if delivery.counted else "settle", trace_id)
        offset_ns = clock.offset_ns()
        process = self._tracer.start_span(
            f"process {self._calls}",
            parent,
            SpanKind.CONSUMER,
            {
                **common,
                at.DESTINATION: self._calls,
                at.OPERATION_NAME: "process",
                at.OPERATION_TYPE: "process",
                at.GROUP: self._group,
                at.CLIENT_ID: self._consumer,
                at.BODY_SIZE: sum(map(len, delivery.fields)),
                at.ATTEMPT: delivery.attempt,
                at.DELIVERY: delivery.origin,
            },
            links,
            offset_ns + delivery.read_ns,
        )
        if process.is_recording():
            run.recording = Recording(process, with_span(process, parent), call_id, common, offset_ns, before)

    def execute(self, run: Run) -> Entered:
        """Make `execute_tool` the current span from here on, so that the tool's own spans land below.

        What is given is to be given to `executed`, unless nothing more is done in the context of the run.
        """
        recording: Recording | None = run.recording
        if self._tracer is None:
            return None
        context = self._unsampled(run) if recording is None else self._begun(run, recording, self._tracer)
        return otel_context.attach(context)

    def executed(self, entered: Entered) -> None:
        """Make the span current no more."""
        if entered is not None:
            otel_context.detach(entered)

    def _begun(self, run: Run, recording: Recording, tracer: Tracer) -> Context:
        """Start `execute_tool`, and give the context in which it is the current span."""
        self._use(run, recording.call_id, "execute_tool", 0)
        recording.tool = tracer.start_span(
            f"execute_tool {recording.common[at.TOOL_NAME]}",
            recording.context,
            SpanKind.INTERNAL,
            {**recording.common, at.GEN_AI_OPERATION: "execute_tool"},
            start_time=recording.at(0),
        )
        if self.captured is not None and run.call is not None:
            arguments = self.captured(dumps(run.call.args).decode())
            recording.tool.set_attribute(at.TOOL_CALL_ARGUMENTS, _cut(arguments))
        return with_span(recording.tool, recording.context)

    def traceparent(self, run: Run) -> str | None:
        """Give the context of the `process` span of *run*."""
        recording: Recording | None = run.recording
        if recording is None:
            return run.call.trace.traceparent if run.call else None
        return propagation.write(recording.process.get_span_context())

    def reply_traceparent(self, run: Run) -> str | None:
        """Start `send` of the reply if need be, and give its context."""
        recording: Recording | None = run.recording
        if recording is None or self._tracer is None:
            return run.call.trace.traceparent if run.call else None
        if recording.reply is None:
            self._use(run, recording.call_id, "send", 0)
            recording.reply = self._tracer.start_span(
                f"send {self._reply_template}",
                recording.context,
                SpanKind.PRODUCER,
                {
                    **recording.common,
                    at.OPERATION_NAME: "send",
                    at.OPERATION_TYPE: "send",
                    at.DESTINATION: (run.call.reply_to if run.call else None) or self._reply_template,
                    at.DESTINATION_TEMPLATE: self._reply_template,
                    at.DESTINATION_TEMPORARY: True,
                },
                start_time=recording.at(run.settling_ns),
            )
        return propagation.write(recording.reply.get_span_context())

    def end(self, runs: Sequence[Run], *, outcome: str, ended_ns: int, batch: int = 1, sent: bool = True) -> None:
        """End the spans of *runs*, which ended in the same way; *batch* is how many were settled with them."""
        for run in runs:
            self._end(run, outcome=outcome, ended_ns=ended_ns, batch=batch, sent=sent)

    def _end(self, run: Run, *, outcome: str, ended_ns: int, batch: int, sent: bool) -> None:
        recording: Recording | None = run.recording
        if recording is None:
            return
        run.recording = None
        end_ns = recording.at(ended_ns)
        if recording.tool is not None:
            result = run.unsent or run.outcome
            fail(recording.tool, result)
            if self.captured is not None and isinstance(result, Succeeded):
                recording.tool.set_attribute(at.TOOL_CALL_RESULT, _cut(self.captured(result.result.decode())))
            # What was left behind at the drain has not ended: the attempt has, and the span with it.
            recording.tool.end(recording.at(run.tool_ended_ns) if run.tool_ended_ns else end_ns)
        if recording.reply is not None and sent:
            recording.reply.set_attribute(at.BATCH_COUNT, batch)
            recording.reply.end(end_ns)
        process, timings = recording.process, run.told or run.timings
        phases = {f"{at.PHASE}.{name}": ms for name in at.PHASES if (ms := getattr(timings, name)) is not None}
        process.set_attributes({at.OUTCOME: outcome, **phases})
        fail(process, run.outcome)
        process.end(end_ns)

    def end_lost(self, run: Run, lost: Attempt, loss: LossReason, *, origin: Origin) -> None:
        """End the spans of the attempt before *run*, whose worker does so no more."""
        recording: Recording | None = run.recording
        if recording is None or recording.before is None:
            return
        trace_id = recording.before.trace_id
        self._ghosts.end(
            run.delivery,
            lost,
            loss,
            origin=origin,
            span=recording.before,
            before=self._before(run, recording.call_id, trace_id, back=2),
            producer=propagation.span_context(run.call.trace) if run.call else None,
            call_id=recording.call_id,
            common=recording.common,
            scope=getattr(recording.process, "instrumentation_scope", None),
        )

    def drop(self, run: Run) -> None:
        """Forget the spans of a run whose end somebody else tells."""
        run.recording = None

    def context(self, run: Run, *, tool: bool = False) -> Context | None:
        """The trace context of *run*, or of its *tool*, for what is logged about it."""
        recording: Recording | None = run.recording
        if recording is not None:
            return with_span(recording.tool, recording.context) if tool and recording.tool else recording.context
        return self._above(run)

    def _above(self, run: Run) -> Context | None:
        """Give the trace context that the call brought."""
        producer = propagation.span_context(run.call.trace) if run.call else None
        return propagation.context_of(producer) if producer else None

    def sampled(self, run: Run) -> Example | None:
        """Name the `process` span of *run*, as an example of what is measured; None if it is not exported."""
        recording: Recording | None = run.recording
        if recording is None:
            return None
        context = recording.process.get_span_context()
        return Sampled(context.trace_id, context.span_id) if context.trace_flags.sampled else None

    def examples(self, runs: Sequence[Run]) -> dict[int, Example]:
        """Name the `process` spans of the slowest and the quickest of those *runs* whose spans are exported.

        Each by its place among *runs*. These have ended together: how long one took is told by when it could begin.
        """
        if self._tracer is None:
            return {}
        exported = {place: example for place, run in enumerate(runs) if (example := self.sampled(run)) is not None}
        if not exported:
            return {}

        def ready_ms(place: int) -> int:
            return runs[place].delivery.ready_ms

        return {place: exported[place] for place in (min(exported, key=ready_ms), max(exported, key=ready_ms))}

    def context_before(self, run: Run) -> Context | None:
        """The trace context of the attempt before *run*; that of *run*, if it is not known."""
        recording: Recording | None = run.recording
        if recording is None or recording.before is None:
            return self.context(run)
        return propagation.context_of(recording.before)

    def _unsampled(self, run: Run) -> Context:
        """Give the context of a run that is not recorded: what the tool does must not be recorded either."""
        call_id = run.call.id if run.call else run.delivery.entry_id
        trace = run.call.trace if run.call else NO_TRACE
        context = propagation.span_context(trace) or SpanContext(
            trace_id_of(call_id), span_id_of(run.delivery, call_id, self._consumer), is_remote=False
        )
        return propagation.context_of(context, propagation.with_baggage(trace, otel_context.Context()))

    def _common(self, run: Run, call_id: str) -> dict[str, Any]:
        call = run.call
        return {
            **self._server,
            at.MESSAGE_ID: run.delivery.entry_id,
            at.CONVERSATION_ID: clean(call_id),
            at.TOOL_CALL_ID: clean((call.tool_call_id if call else None) or call_id),
            at.TOOL_NAME: clean(call.tool) if call else OTHER_TOOL,
        }

    def _use(self, run: Run, call_id: str, role: str, trace_id: int) -> None:
        if self._ids is not None:
            span_id = span_id_of(run.delivery, call_id, self._consumer, role=role)
            self._ids.use(span_id=span_id, trace_id=trace_id)

    def _before(self, run: Run, call_id: str, trace_id: int, *, back: int = 1) -> SpanContext | None:
        """Name the span of an attempt before this one, which nobody needs to have stored."""
        history = run.delivery.history
        if len(history) < back or self._ids is None:
            return None
        attempt = history[-back]
        span_id = span_id_of(run.delivery, call_id, attempt.consumer, attempt=attempt.attempt)
        return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_CAPTURED else f"{text[: _LONGEST_CAPTURED - 1]}…"


def fail(span: Span, outcome: Outcome | None) -> None:
    """Say on *span* how *outcome* failed, if it did."""
    if not isinstance(outcome, Failed):
        return
    span.set_attribute(at.ERROR_TYPE, outcome.type)
    if outcome.type not in NOT_AN_ERROR:
        span.set_status(StatusCode.ERROR, clean(outcome.message))
