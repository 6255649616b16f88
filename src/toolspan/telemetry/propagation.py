"""Trace context in and out of stream fields: W3C `traceparent`, read by our own code so that no bytes can hurt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context

if TYPE_CHECKING:
    from toolspan.model import TraceFields

# https://www.w3.org/TR/trace-context/#traceparent-header: later versions may append, version ff is none, nor are ids of
# nothing but zeros.
_TRACEPARENT: Final = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
).fullmatch
_LOW: Final = 2**64 - 1
_BAGGAGE: Final = W3CBaggagePropagator()


class Parent(NamedTuple):
    """Where a trace comes from: ids as integers, flags as they came."""

    trace_id: int
    span_id: int
    flags: int


def parse(traceparent: str | None) -> Parent | None:
    """Read a `traceparent`; None for whatever is not one."""
    found = split(traceparent) if traceparent else None
    return found and Parent(*(int(part, 16) for part in found))


def split(traceparent: str) -> tuple[str, str, str] | None:
    """Give the trace id, the span id and the flags of a `traceparent` as they stand there; None if it is not one."""
    found = _TRACEPARENT(traceparent)
    return None if found is None else found.groups()  # type: ignore[return-value]


def capped(traceparent: str, ratio: float) -> str:
    """Give *traceparent* without the wish to be sampled, unless its trace is among the *ratio* of them that may be.

    Which those are is decided by the trace id as OpenTelemetry's `TraceIdRatioBased` does it, for all gateways alike.
    """
    parent = parse(traceparent)
    if parent is None or not parent.flags & TraceFlags.SAMPLED or parent.trace_id & _LOW < round(ratio * (_LOW + 1)):
        return traceparent
    return f"{traceparent[:53]}{parent.flags & ~TraceFlags.SAMPLED:02x}{traceparent[55:]}"


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


def baggage_in(trace: TraceFields) -> dict[str, str]:
    """Read the baggage that travels in *trace*."""
    return {name: str(value) for name, value in get_all(with_baggage(trace, Context())).items()}


def baggage_of(context: Context) -> str | None:
    """Write the baggage of *context* as it travels; None if there is none."""
    carrier: dict[str, str] = {}
    _BAGGAGE.inject(carrier, context)
    return carrier.get("baggage")


def context_in(trace: TraceFields) -> Context | None:
    """Make a context in which the span that *trace* names is the current one; None if it names none."""
    remote = span_context(trace)
    return context_of(remote) if remote else None


def context_of(remote: SpanContext, base: Context | None = None) -> Context:
    """Make a context in which *remote* is the current span."""
    return set_span_in_context(NonRecordingSpan(remote), base)
