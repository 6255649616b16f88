"""What is written by filling in blanks is what our general encoder writes of the same spans, byte for byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from toolspan.keys import Keys
from toolspan.model import Delivery, Run, Succeeded, Timings, ToolCall
from toolspan.telemetry.ids import first_span_ids_of
from toolspan.telemetry.otlp.calls import Calls, Error
from toolspan.telemetry.otlp.pattern import Blank, Pattern
from toolspan.telemetry.otlp.spans import request
from toolspan.telemetry.record import Record

KEYS = Keys()
TEMPLATE = KEYS.reply_prefix.removesuffix(":")
RESOURCE = Resource({"service.name": "toolspan-worker"})
SCOPE = InstrumentationScope("toolspan", "1.0")
SERVER = {"messaging.system": "redis", "server.address": "redis.test", "server.port": 6379}
CALLS = Calls(RESOURCE, SCOPE, KEYS, "w-1-abcd", SERVER)
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OFFSET_NS, ENDED_NS = 1_700_000_000_000_000_000, 9_000
SAMPLED = TraceFlags(TraceFlags.SAMPLED)

# Lengths where the length of what stands before them changes.
WORDS = st.sampled_from(["a", "x" * 127, "x" * 128, "ü" * 64, "x" * 300]) | st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40
)
PHASES = st.none() | st.floats(0, 1e9)
ERRORS = st.none() | st.tuples(st.sampled_from(["tool_error", "timeout"]), st.none() | WORDS | st.just(""))


def _span(name: str, kind: SpanKind, span_id: bytes, above: SpanContext | None, **more: Any) -> ReadableSpan:
    context = SpanContext(int(TRACE, 16), int.from_bytes(span_id), False, SAMPLED)
    return ReadableSpan(name, context, above, RESOURCE, kind=kind, instrumentation_scope=SCOPE, **more)


def _failed(error: Error | None) -> tuple[dict[str, str], Status]:
    if error is None:
        return {}, Status()
    kind, message = error
    return {"error.type": kind}, Status() if message is None else Status(StatusCode.ERROR, message)


@dataclass(frozen=True)
class Case:
    """What can differ between calls."""

    call_id: str
    tool_call_id: str | None
    tool: str
    reply_to: str | None
    body: int
    batch: int
    phases: tuple[float | None, float | None, float | None, float | None]
    parent: bool
    executed: bool
    replied: bool
    errors: tuple[Error | None, Error | None]


CASES = st.builds(
    Case,
    call_id=WORDS,
    tool_call_id=st.none() | WORDS,
    tool=WORDS,
    reply_to=st.none() | WORDS,
    body=st.sampled_from([1, 127, 128, 16_383, 16_384, 1_000_000]),
    batch=st.sampled_from([1, 100, 127, 128]),
    phases=st.tuples(PHASES, PHASES, PHASES, PHASES),
    parent=st.booleans(),
    executed=st.booleans(),
    replied=st.booleans(),
    errors=st.tuples(ERRORS, ERRORS),
)


@given(CASES)
@settings(max_examples=200, deadline=None)
def test_a_call_is_written_as_its_spans_are(case: Case) -> None:
    call = ToolCall(case.call_id, case.tool, {}, case.reply_to, tool_call_id=case.tool_call_id)
    run = Run(Delivery("1700000000000-7", [bytes(case.body)], 1, "first", 1_000, 0, 0), call, outcome=Succeeded(b"1"))
    run.tool_began_ns, run.tool_ended_ns, run.settling_ns, run.told = 2_000, 3_000, 4_000, Timings(*case.phases)
    record = Record(_Ids(), run, TRACE, PARENT if case.parent else "", 1, sampled=True)
    record.executed, record.replied = case.executed, case.replied

    count, written = CALLS.write(run, call, record, "ok", OFFSET_NS, ENDED_NS, case.batch, case.errors)

    process, tool_id, reply = record.ids
    common = {
        **SERVER,
        "messaging.message.id": "1700000000000-7",
        "messaging.message.conversation_id": case.call_id,
        "gen_ai.tool.call.id": case.tool_call_id or case.call_id,
        "gen_ai.tool.name": case.tool,
    }
    own = SpanContext(int(TRACE, 16), int.from_bytes(process), False, SAMPLED)
    spans = []
    if case.executed:
        kind, status = _failed(case.errors[1])
        about = {**common, "gen_ai.operation.name": "execute_tool", **kind}
        times = {"start_time": OFFSET_NS + 2_000, "end_time": OFFSET_NS + 3_000}
        spans.append(
            _span(
                f"execute_tool {case.tool}", SpanKind.INTERNAL, tool_id, own, attributes=about, status=status, **times
            )
        )
    if case.replied:
        about = {
            **common,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": case.reply_to or TEMPLATE,
            "messaging.destination.template": TEMPLATE,
            "messaging.destination.temporary": True,
            "messaging.batch.message_count": case.batch,
        }
        times = {"start_time": OFFSET_NS + 4_000, "end_time": OFFSET_NS + ENDED_NS}
        spans.append(_span(f"send {TEMPLATE}", SpanKind.PRODUCER, reply, own, attributes=about, **times))
    kind, status = _failed(case.errors[0])
    names = ("queue", "admission", "execute", "settle")
    about = {
        **common,
        "messaging.destination.name": KEYS.calls,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": KEYS.group,
        "messaging.client.id": "w-1-abcd",
        "messaging.message.body.size": case.body,
        "toolspan.attempt": 1,
        "toolspan.delivery": "first",
        "toolspan.outcome": "ok",
        **{f"toolspan.phase.{name}": ms for name, ms in zip(names, case.phases, strict=True) if ms is not None},
        **kind,
    }
    above = SpanContext(int(TRACE, 16), int(PARENT, 16), True, SAMPLED) if case.parent else None
    times = {"start_time": OFFSET_NS + 1_000, "end_time": OFFSET_NS + ENDED_NS}
    links = [Link(above)] if above else []
    spans.append(
        _span(
            f"process {KEYS.calls}", SpanKind.CONSUMER, process, above,
            attributes=about, links=links, status=status, **times,
        )
    )  # fmt: skip
    assert b"".join(CALLS.part_of_request([written])) == request(spans)
    assert count == len(spans)


class _Ids:
    """Derives ids, as whoever makes records does."""

    resource = RESOURCE

    def ids(self, run: Run) -> tuple[bytes, bytes, bytes]:
        return first_span_ids_of(run.delivery.entry_id, run.call.id if run.call else "", "w-1-abcd")

    def tool_span(self, record: Record, run: Run) -> Any:
        pytest.fail(f"{record} of {run} is touched by nobody")


def test_constants_and_blanks_may_stand_in_any_order() -> None:
    parts: list[bytes | Blank] = [Blank("2s"), Blank("Q"), b"ab", b"cd", Blank("d"), b"e"]

    assert (
        Pattern(parts).filled([b"xy", 258, 1.5]) == b"xy\x02\x01" + bytes(6) + b"abcd" + struct.pack("<d", 1.5) + b"e"
    )
    assert Pattern([b"only"]).filled([]) == b"only"
    assert Pattern([]).filled([]) == b""


@pytest.mark.parametrize("values", [[], [1, 2]])
def test_blanks_are_filled_in_exactly(values: list[int]) -> None:
    with pytest.raises(ValueError, match="size"):
        Pattern([b"a", Blank("Q")]).filled(values)
