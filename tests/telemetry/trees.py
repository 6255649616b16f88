"""Spans as a test asks for them: by name, with the operation only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.telemetry import propagation

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

    from toolspan.testing import Recorder


def named(recorder: Recorder, name: str) -> list[ReadableSpan]:
    """All spans of this name that have ended, in the order in which they began."""
    return sorted((span for span in recorder.spans if span.name == name), key=lambda span: span.start_time or 0)


def one(recorder: Recorder, name: str) -> ReadableSpan:
    """The only span of this name."""
    found = named(recorder, name)
    assert len(found) == 1, f"{len(found)} spans {name} among {[span.name for span in recorder.spans]}"
    return found[0]


def context(span: ReadableSpan) -> SpanContext:
    """Who the span is."""
    found: SpanContext = span.context
    return found


def written(span: ReadableSpan) -> str:
    """The span as a `traceparent`."""
    return propagation.write(context(span))


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    """Whether *parent* is the parent of *child*, in one trace."""
    above = child.parent
    return above is not None and (above.trace_id, above.span_id) == (
        context(parent).trace_id,
        context(parent).span_id,
    )


def links(span: ReadableSpan) -> set[tuple[int, int]]:
    """The trace and span ids that it links to."""
    return {(link.context.trace_id, link.context.span_id) for link in span.links}


def ids(span: ReadableSpan) -> tuple[int, int]:
    """Trace and span id."""
    return context(span).trace_id, context(span).span_id
