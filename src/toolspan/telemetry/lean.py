"""The spans of ordinary calls, kept as plain values until all of them have ended; all others are the SDK's.

Ordinary is the first attempt of a call that can be read and brought no more than a `traceparent`. Nearly all are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace import set_span_in_context as with_span

from toolspan.model import Failed, Succeeded
from toolspan.telemetry import attributes as at
from toolspan.telemetry import clock, propagation
from toolspan.telemetry.ids import first_span_ids_of, trace_id_of
from toolspan.telemetry.otlp.calls import Calls
from toolspan.telemetry.record import Record
from toolspan.telemetry.spans import NOT_AN_ERROR, Spans, fail
from toolspan.telemetry.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Span, Tracer

    from toolspan.keys import Keys
    from toolspan.model import Outcome, Run
    from toolspan.telemetry.histograms import Example
    from toolspan.telemetry.otlp.calls import Error
    from toolspan.telemetry.otlp.outbox import Outbox, Plain
    from toolspan.telemetry.sampling import Rule
    from toolspan.telemetry.spans import Entered

_SPAN_KEY: Final = next(iter(with_span(INVALID_SPAN, Context())))
"""Under which name a context holds its span; setting it by the API copies the context twice."""

_SAMPLED: Final = TraceFlags.SAMPLED
_RANDOM: Final = TraceFlags.RANDOM_TRACE_ID


class LeanSpans(Spans):
    """Keeps what is known of each ordinary call, and hands it to *outbox* at its end.

    Then it is also known whether the call failed: what did is exported whatever *rule* says.
    """

    def __init__(
        self,
        tracer: Tracer | None,
        outbox: Outbox,
        rule: Rule,
        *,
        resource: Resource,
        scope: InstrumentationScope,
        keys: Keys,
        **more: Any,
    ) -> None:
        super().__init__(tracer, ended=outbox, resource=resource, keys=keys, **more)
        self.resource = resource
        self._outbox = outbox
        self._rule = rule
        self._counts = outbox.spans
        calls = Calls(resource, scope, keys, self._consumer, self._server)
        self._write = calls.write
        outbox.frames_by(calls.part_of_request)

    def begin(self, run: Run) -> None:
        """Begin to keep what is known of *run*."""
        delivery, call = run.delivery, run.call
        if call is None or delivery.attempt != 1 or not delivery.counted or delivery.loss or delivery.history:
            super().begin(run)
            return
        trace = call.trace
        if trace.tracestate or trace.baggage:
            super().begin(run)
            return
        found = propagation.split(trace.traceparent) if trace.traceparent else None
        if found is None:
            trace_id, parent, known, sampled_above = f"{trace_id_of(call.id):032x}", "", 0, None
        else:
            trace_id, parent, flags = found
            known = int(flags, 16)
            sampled_above = bool(known & _SAMPLED)
        sampled = self._rule.samples(trace_id, sampled_above)
        counts = self._counts
        counts.started[2 * (sampled_above is not None) + sampled] += 1
        counts.live += sampled
        run.recording = Record(self, run, trace_id, parent, known & _RANDOM | sampled, sampled)

    def execute(self, run: Run) -> Entered:
        """Make the record the current span from here on, and nothing else of what is around."""
        record = run.recording
        if type(record) is not Record:
            return super().execute(run)
        record.executed = True
        return otel_context.attach(Context({_SPAN_KEY: record}))

    def traceparent(self, run: Run) -> str | None:
        """Give the context of the `process` span of *run*."""
        record = run.recording
        if type(record) is not Record:
            return super().traceparent(run)
        return _written(record, 0) if (record.sampled or _has_failed(run)) else _given(run)

    def reply_traceparent(self, run: Run) -> str | None:
        """Give the context of `send` of the reply, which begins with that."""
        record = run.recording
        if type(record) is not Record:
            return super().reply_traceparent(run)
        if not (record.sampled or _has_failed(run)):
            return _given(run)
        record.replied = True
        return _written(record, 2)

    def end(self, runs: Sequence[Run], *, outcome: str, ended_ns: int, batch: int = 1, sent: bool = True) -> None:
        """Write the spans of *runs*, and hand them on."""
        # One offset for all of them, whatever was done to the clock meanwhile.
        offset_ns = clock.offset_ns()
        counts, write = self._counts, self._write
        written: list[Plain] = []
        for run in runs:
            record = run.recording
            if type(record) is not Record:
                self._end(run, outcome=outcome, ended_ns=ended_ns, batch=batch, sent=sent)
                continue
            run.recording = None
            counts.live -= record.sampled
            if (call := run.call) is not None and (record.sampled or _has_failed(run)):
                result = run.outcome
                errors = _NONE if type(result) is Succeeded else (_error_of(result), _error_of(run.unsent or result))
                if record.taken_over is not None:
                    record.executed = False
                    fail(record.taken_over, run.unsent or result)
                    record.taken_over.end(offset_ns + (run.tool_ended_ns or ended_ns))
                record.replied = record.replied and sent
                counts.below += record.executed + record.replied
                written.append(write(run, call, record, outcome, offset_ns, ended_ns, batch, errors))
            record.ended()
        self._outbox.put(written)

    def drop(self, run: Run) -> None:
        """Forget the spans of a run whose end somebody else tells."""
        record = run.recording
        if type(record) is Record:
            self._counts.live -= record.sampled
            record.ended()
        run.recording = None

    def context(self, run: Run, *, tool: bool = False) -> Context | None:
        """The trace context of *run*, or of its *tool*, for what is logged about it."""
        record = run.recording
        if type(record) is not Record:
            return super().context(run, tool=tool)
        if record.sampled or _has_failed(run):
            return with_span(NonRecordingSpan(_named(record, 1 if tool and record.executed else 0)), Context())
        return self._above(run)

    def sampled(self, run: Run) -> Example | None:
        """Name the `process` span of *run*, as an example of what is measured; None if it is not exported."""
        record = run.recording
        if type(record) is not Record:
            return super().sampled(run)
        return record if (record.sampled or _has_failed(run)) else None

    def ids(self, run: Run) -> tuple[bytes, bytes, bytes]:
        """Derive the ids of `process`, `execute_tool` and `send` of the reply."""
        call = run.call
        entry_id = run.delivery.entry_id
        return first_span_ids_of(entry_id, call.id if call else entry_id, self._consumer)

    def tool_span(self, record: Record, run: Run) -> Span:
        """Start the span of the SDK that *record* stands for, as of when the tool began."""
        call, tracer = run.call, self._tracer
        if call is None or tracer is None or self._ids is None:
            return INVALID_SPAN
        self._ids.use(span_id=int.from_bytes(record.ids[1]), trace_id=0)
        return tracer.start_span(
            f"execute_tool {clean(call.tool)}",
            with_span(NonRecordingSpan(_named(record, 0)), Context()),
            SpanKind.INTERNAL,
            {**self._common(run, call.id), at.GEN_AI_OPERATION: "execute_tool"},
            start_time=clock.offset_ns() + run.tool_began_ns,
        )


def _has_failed(run: Run) -> bool:
    """Tell whether *run* is exported even if it was not sampled, as far as that is known."""
    outcome = run.outcome
    return isinstance(outcome, Failed) and outcome.type not in NOT_AN_ERROR


_NONE: Final = (None, None)


def _error_of(outcome: Outcome | None) -> Error | None:
    if not isinstance(outcome, Failed):
        return None
    return outcome.type, None if outcome.type in NOT_AN_ERROR else outcome.message


def _named(record: Record, which: int) -> SpanContext:
    flags = TraceFlags(record.flags | _SAMPLED)
    return SpanContext(record.trace_id, int.from_bytes(record.ids[which]), is_remote=False, trace_flags=flags)


def _written(record: Record, which: int) -> str:
    return f"00-{record.trace}-{record.ids[which].hex()}-{record.flags | _SAMPLED:02x}"


def _given(run: Run) -> str | None:
    """Give the context that the call brought."""
    return run.call.trace.traceparent if run.call else None
