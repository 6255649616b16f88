"""Our own encoder writes what the stock one does, byte for byte; and what that cannot write harms no other span."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from tests.telemetry.collector import plain
from toolspan.telemetry.otlp.spans import request

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
SIMPLE = st.none() | st.booleans() | TEXT | NUMBERS | st.floats() | st.binary(max_size=200)
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=8)
ATTRIBUTES = st.dictionaries(TEXT.filter(bool), VALUES, max_size=6)
NANOSECONDS = st.none() | st.integers(0, 2**64 - 1)
STATES = st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), st.just("v"), max_size=3).map(
    lambda pairs: TraceState(list(pairs.items()))
)
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1)]),
    STATES,
)
STATUSES = st.just(Status()) | TEXT.map(lambda words: Status(StatusCode.ERROR, words)) | st.just(Status(StatusCode.OK))
SCOPES = st.none() | st.builds(InstrumentationScope, TEXT, st.none() | TEXT, st.none() | TEXT, ATTRIBUTES)
RESOURCES = st.builds(Resource, ATTRIBUTES, TEXT)
SPANS = st.builds(
    ReadableSpan,
    TEXT,
    CONTEXTS,
    st.none() | CONTEXTS,
    RESOURCES,
    ATTRIBUTES,
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=3),
    kind=st.sampled_from(SpanKind),
    status=STATUSES,
    start_time=NANOSECONDS,
    end_time=NANOSECONDS,
    instrumentation_scope=SCOPES,
)


@given(st.lists(SPANS, max_size=4))
@settings(max_examples=60, deadline=None)
def test_spans_are_written_as_the_stock_exporter_writes_them(spans: list[ReadableSpan]) -> None:
    assert request(spans) == encode_spans(spans).SerializeToString(deterministic=True)


@given(
    names=st.lists(TEXT, min_size=1, max_size=4),
    attributes=ATTRIBUTES,
    events=st.lists(st.tuples(TEXT, ATTRIBUTES, NANOSECONDS), max_size=4),
    links=st.lists(st.tuples(CONTEXTS, ATTRIBUTES), max_size=4),
)
@settings(max_examples=20, deadline=None)
def test_what_limits_cut_off_is_counted_as_the_stock_exporter_counts_it(
    names: list[str],
    attributes: dict[str, Any],
    events: list[tuple[str, dict[str, Any], int | None]],
    links: list[tuple[SpanContext, dict[str, Any]]],
) -> None:
    kept = InMemorySpanExporter()
    limits = SpanLimits(2, 2, 2, 2, 1, 1, 5)
    provider = TracerProvider(ALWAYS_ON, Resource({}), shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("limited", "1")
    for name in names:
        with tracer.start_as_current_span(name, attributes=attributes) as span:
            for event, about, at_ns in events:
                span.add_event(event, about, at_ns)
            for context, about in links:
                span.add_link(context, about)
    spans = kept.get_finished_spans()

    assert request(spans) == encode_spans(spans).SerializeToString(deterministic=True)


def _decoded(*spans: ReadableSpan) -> list[Any]:
    [group] = ExportTraceServiceRequest.FromString(request(spans)).resource_spans
    return [span for scope in group.scope_spans for span in scope.spans]


def _span(name: str, **attributes: Any) -> ReadableSpan:
    return ReadableSpan(name, SpanContext(1, 2, is_remote=False), resource=Resource({}), attributes=attributes)


def test_half_surrogates_become_question_marks_and_the_spans_beside_are_whole() -> None:
    first, second = _decoded(_span("a\ud800", text="b\udfff"), _span("good", number=1))

    assert (first.name, plain(first.attributes)) == ("a?", {"text": "b?"})
    assert (second.name, plain(second.attributes)) == ("good", {"number": 1})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**80, object()])
def test_a_value_that_otlp_has_not_is_left_out_and_nothing_else(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    [span] = _decoded(_span("one", before=1, bad=value, after=2))

    assert plain(span.attributes) == {"before": 1, "after": 2}
    assert "bad" in caplog.text


def test_a_span_that_cannot_be_written_is_left_out_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    early = ReadableSpan("early", SpanContext(1, 2, is_remote=False), resource=Resource({}), start_time=-1)
    nameless = ReadableSpan("nobody", cast("Any", None), resource=Resource({}))

    assert [span.name for span in _decoded(_span("one"), early, nameless, _span("two"))] == ["one", "two"]
    assert "span early is left out" in caplog.text
    assert "span nobody is left out" in caplog.text
