"""Spans of ordinary calls are kept as plain values, or are the SDK's own; what is exported is the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from structlog.testing import capture_logs

from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan import tool
from toolspan.telemetry import exporters
from toolspan.telemetry.lean import LeanSpans
from toolspan.telemetry.setup import start
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector

tracer = trace.get_tracer("library", "1.0")
TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = f"00-{TRACE}-b7ad6b7169203331-01"
RANDOM = f"00-{TRACE}-b7ad6b7169203332-03"
UNSAMPLED = f"00-{TRACE}-b7ad6b7169203333-00"
TIMES = ("start_time_unix_nano", "end_time_unix_nano")


@tool
async def touches() -> str:
    """Say all kinds of things about its own span, and start some below."""
    span = trace.get_current_span()
    span.set_attribute("said", "once")
    span.set_attributes({"and": [1, 2], "again": True})
    span.add_event("happened", {"how": "well"}, 1_700_000_000_000_000_000)
    span.add_link(trace.SpanContext(5, 6, is_remote=False))
    with tracer.start_as_current_span("below"):
        trace.get_current_span().set_attribute("deeper", 1.5)
    return str(getattr(span, "name", "nameless"))


@tool
async def renames() -> None:
    """Call its own span something else, and say that it failed."""
    span = trace.get_current_span()
    span.update_name("renamed")
    span.set_status(trace.StatusCode.ERROR, "as the tool says")


@tool
async def ends() -> None:
    """End its own span, which is not its own to end."""
    trace.get_current_span().end()


@tool
def looks() -> list[Any]:
    """Tell in a thread what is seen of its span, without touching it."""
    span = trace.get_current_span()
    context = span.get_span_context()
    with tracer.start_as_current_span("in a thread"):
        pass
    return [context.trace_id, context.span_id, context.trace_flags, context.is_remote, span.is_recording()]


TOOLS = (toolbox.echo, toolbox.fails, touches, renames, ends, looks)
CALLS: list[list[str | bytes]] = [
    ["id", "plain", "tool", "echo", "args", "{}"],
    ["id", "sampled", "tool", "echo", "args", "{}", "traceparent", SAMPLED],
    ["id", "random", "tool", "looks", "args", "{}", "traceparent", RANDOM],
    ["id", "unsampled", "tool", "looks", "args", "{}", "traceparent", UNSAMPLED],
    ["id", "broken", "tool", "looks", "args", "{}", "traceparent", "00-nothing"],
    ["id", "stateful", "tool", "looks", "args", "{}", "traceparent", SAMPLED, "tracestate", "vendor=1"],
    ["id", "packed", "tool", "looks", "args", "{}", "traceparent", SAMPLED, "baggage", "user=7"],
    ["id", "fails", "tool", "fails", "args", '{"message": "späte Überraschung"}', "traceparent", SAMPLED],
    ["id", "silent", "tool", "echo", "args", "{}", "traceparent", SAMPLED],
    ["id", "fails silently", "tool", "fails", "args", "{}", "traceparent", SAMPLED],
    ["id", "arguments", "tool", "echo", "args", '{"no": 1}', "traceparent", SAMPLED],
    ["id", "unknown", "tool", "nobody.has.it", "args", "{}", "traceparent", SAMPLED],
    ["id", "late", "tool", "echo", "args", "{}", "traceparent", SAMPLED, "deadline", "1"],
    ["id", "touches", "tool", "touches", "args", "{}", "traceparent", SAMPLED],
    ["id", "renames", "tool", "renames", "args", "{}", "traceparent", SAMPLED],
    ["id", "ends", "tool", "ends", "args", "{}", "traceparent", SAMPLED],
    ["id", "replayed", "tool", "echo", "args", "{}", "replay_of", "before", "tool_call_id", "ü" * 100],
    ["id", "x" * 200, "tool", "echo", "args", "{}", "traceparent", SAMPLED, "tool_call_id", "call_7"],
]
FAILURES = ("fails", "fails silently", "arguments", "unknown")


async def _exported(plane: Plane, collector: Collector, *, lean: bool) -> tuple[list[Any], list[Any], list[Any]]:
    """Run all calls under the same ids each time: give the spans, what callers were told, and the SDK's own counts."""
    await plane.redis.delete(plane.keys.calls, plane.reply_to)
    known = len(collector.every_span())
    telemetry = start("worker", keys=plane.keys, instance_id="w", server=("redis.test", 6379))
    assert isinstance(telemetry.probe._spans, LeanSpans) is lean
    settings = plane.settings.model_copy(update={"max_attempts": 1})
    async with running_worker(*TOOLS, settings=settings, probe=telemetry.probe):
        for number, call in enumerate(CALLS, start=1):
            answered = () if "silent" in str(call[1]) else ("reply_to", plane.reply_to)
            await plane.redis.execute_command("XADD", plane.keys.calls, f"{number}-1", "v", "1", *answered, *call)
        await eventually(lambda: _nothing_left(plane), because="all have ended")
    await asyncio.to_thread(telemetry.shutdown)
    spans = [(resource["service.instance.id"], _plain(span)) for resource, span in collector.every_span()[known:]]
    replies = [(reply.call_id, reply.status, reply.result, reply.traceparent) for reply in await plane.replies()]
    counts = [
        collector.sum("otel.sdk.span.started", "otel.span.parent.origin", "otel.span.sampling_result"),
        collector.sum("otel.sdk.span.live"),
    ]
    return sorted(spans, key=str), sorted(replies, key=str), counts


async def _nothing_left(plane: Plane) -> bool:
    return await plane.left() == 0


def _plain(span: Any) -> str:
    """All of a span but what no two runs have in common; no time is missing, and none runs backwards."""
    assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano
    for field in TIMES:
        setattr(span, field, 1)
    if span.name in {"below", "in a thread"}:
        span.span_id = b""
    for pair in span.attributes:
        if pair.key.startswith("toolspan.phase."):
            pair.value.double_value = 0
        if pair.key == "messaging.batch.message_count":
            pair.value.int_value = 1
    return str(span)


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "always_on", "parentbased_traceidratio", "always_off"])
@pytest.mark.parametrize("stock", [False, True])
async def test_what_is_exported_is_the_same(
    plane: Plane,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    sampler: str,
    stock: bool,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    lean, told, counts = await _exported(plane, collector, lean=True)
    # A limit that might cut something is the SDK's to keep.
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "1000000")
    if stock:
        monkeypatch.setattr(exporters, "spans", _is_not_there)
    with capture_logs() as lines:
        usual, *also = await _exported(plane, collector, lean=False)
    assert ("telemetry.slow" in {line["event"] for line in lines}) is stock
    failed = [span for span in lean if any(f'"{name}"' in span[1] for name in FAILURES)]

    if sampler.endswith("on"):
        assert (lean, told, counts) == (usual, *also)
        assert len(lean) > 2 * len(CALLS)
    else:
        # A head sampler cannot know what will fail.
        assert [span for span in lean if span not in failed] == [span for span in usual if span not in failed]
        assert len(failed) == 3 + 2 + 2 + 2


def _is_not_there(*_: Any) -> Any:
    message = "the SDK is another one by now"
    raise AttributeError(message)
