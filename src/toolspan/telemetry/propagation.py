"""Trace context in and out of stream fields: W3C `traceparent`, read by our own code so that no bytes can hurt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from toolspan.model import TraceFields

# https://www.w3.org/TR/trace-context/#traceparent-header: later versions may append, version ff is none.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_BAGGAGE: Final = W3CBaggagePropagator()


class Parent(NamedTuple):
    """Where a trace comes from: ids as integers, flags as they came."""

    trace_id: int
    span_id: int
    flags: int


def parse(traceparent: str | None) -> Parent | None:
    """Read a `traceparent`; None for whatever is not one."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if found is None:
        return None
    trace, span, flags = found.groups()
    if trace == _NO_TRACE or span == _NO_SPAN or (len(traceparent or "") > 55 and (traceparent or "")[:2] == "00"):  # noqa: PLR2004
        return None
    return Parent(int(trace, 16), int(span, 16), int(flags, 16))


def write(context: SpanContext) -> str:
    """Write a span's context as `traceparent`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0xFF:02x}"


def span_context(trace: TraceFields) -> SpanContext | None:
    """Give the remote span that *trace* names, with its `tracestate`; None if it names none."""
    parent = parse(trace.traceparent)
    if parent is None:
        return None
    state = TraceState.from_header([trace.tracestate]) if trace.tracestate else None
    return SpanContext(
        parent.trace_id, parent.span_id, is_remote=True, trace_flags=TraceFlags(parent.flags), trace_state=state
    )


def with_baggage(trace: TraceFields, base: Context) -> Context:
    """Give *base* with the baggage that travels in *trace*."""
    return _BAGGAGE.extract({"baggage": trace.baggage}, base) if trace.baggage else base


def baggage_of(context: Context) -> str | None:
    """Write the baggage of *context* as it travels; None if there is none."""
    carrier: dict[str, str] = {}
    _BAGGAGE.inject(carrier, context)
    return carrier.get("baggage")


def context_of(remote: SpanContext, base: Context | None = None) -> Context:
    """Make a context in which *remote* is the current span."""
    return set_span_in_context(NonRecordingSpan(remote), base)
