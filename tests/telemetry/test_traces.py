"""One call, one trace: from its caller through every attempt to the reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.trace import SpanKind, StatusCode

from tests.support import toolbox
from tests.support.eventually import eventually
from tests.telemetry.orphans import lose
from tests.telemetry.trees import context, ids, is_below, links, named, one, written
from toolspan import ToolError, tool
from toolspan.model import Delivery, TraceFields
from toolspan.operate.dead_letters import replay
from toolspan.store.dead_letters import DeadLetterStore
from toolspan.telemetry import attributes as at
from toolspan.telemetry.ids import span_id_of
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan import Settings, ToolClient
    from toolspan.store import Connection

ALL = Registry.load(["tests.support.toolbox"])
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID, PARENT_ID = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331


@tool
async def here() -> dict[str, Any]:
    """Tell what a tool sees of its trace."""
    span = trace.get_current_span().get_span_context()
    return {
        "span": span.span_id,
        "trace": span.trace_id,
        "sampled": span.trace_flags.sampled,
        "state": span.trace_state.to_header(),
        "baggage": dict(baggage.get_all()),
    }


async def test_a_call_is_one_trace_from_its_caller_to_its_reply(
    settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    async with running_worker(here, settings=settings, probe=recorder.probe):
        reply = await client.call("here")
    calls = settings.keys.calls
    call, send = one(recorder, "call here"), one(recorder, f"send {calls}")
    process, execute = one(recorder, f"process {calls}"), one(recorder, "execute_tool here")
    answer = one(recorder, f"send {settings.prefix}:reply")

    assert call.parent is None
    assert [is_below(*pair) for pair in ((send, call), (process, send), (execute, process), (answer, process))] == [
        True
    ] * 4
    assert [span.kind for span in (call, send, process, execute, answer)] == [
        SpanKind.CLIENT,
        SpanKind.PRODUCER,
        SpanKind.CONSUMER,
        SpanKind.INTERNAL,
        SpanKind.PRODUCER,
    ]
    assert len(recorder.spans) == 5
    # The reply names the span that produced it, and the caller links to that.
    assert reply.traceparent == written(answer)
    assert links(call) == {ids(answer)}
    assert [event.name for event in call.events] == ["reply.received"]
    assert links(process) == {ids(send)}
    assert (reply.result["trace"], reply.result["span"]) == ids(execute)


async def test_the_spans_of_a_call_carry_the_attributes_of_the_contract(
    settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        reply = await client.call("echo", {"text": "some argument"}, tool_call_id="call_7")
    keys = settings.keys
    common = {
        "messaging.system": "redis",
        "messaging.message.id": reply.entry_id,
        "messaging.message.conversation_id": reply.call_id,
        "gen_ai.tool.call.id": "call_7",
        "gen_ai.tool.name": "echo",
    }
    on_stream = {**common, "messaging.destination.name": keys.calls}
    found = {span.name: dict(span.attributes or {}) for span in recorder.spans}
    process = found.pop(f"process {keys.calls}")
    phases = {name for name in process if name.startswith("toolspan.phase.")}
    size = process.pop("messaging.message.body.size")

    assert found == {
        "call echo": {**on_stream, "messaging.operation.name": "call", "messaging.operation.type": "send"},
        f"send {keys.calls}": {**on_stream, "messaging.operation.name": "send", "messaging.operation.type": "send"},
        "execute_tool echo": {**common, "gen_ai.operation.name": "execute_tool"},
        f"send {settings.prefix}:reply": {
            **common,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": keys.replies(client.gateway_id),
            "messaging.destination.template": f"{settings.prefix}:reply",
            "messaging.destination.temporary": True,
            "messaging.batch.message_count": 1,
        },
    }
    assert isinstance(size, int)
    assert size > len("some argument")
    assert {name: value for name, value in process.items() if name not in phases} == {
        **on_stream,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.consumer.group.name": keys.group,
        "messaging.client.id": "test",
        "toolspan.attempt": 1,
        "toolspan.delivery": "first",
        "toolspan.outcome": "ok",
    }
    assert phases == {f"toolspan.phase.{name}" for name in ("queue", "admission", "execute", "settle")}


@pytest.mark.parametrize("form", ["fields", "payload", "beside the payload"])
async def test_a_producer_of_either_form_is_the_parent_and_is_linked_to(
    plane: Plane, settings: Settings, recorder: Recorder, form: str
) -> None:
    inside = f', "traceparent": "{PARENT}"' if form == "payload" else ""
    payload = f'{{"tool": "here", "args": {{}}, "reply_to": "{plane.reply_to}"{inside}}}'
    entry = {
        "fields": ["v", "1", "id", "c", "tool", "here", "args", "{}", "reply_to", plane.reply_to],
        "payload": ["payload", payload],
        "beside the payload": ["payload", payload],
    }[form]
    more = [] if form == "payload" else ["traceparent", PARENT, "tracestate", "vendor=1", "baggage", "user=7"]
    await plane.add(*entry, *more)
    async with running_worker(here, settings=settings, probe=recorder.probe):
        reply = (await eventually(plane.replies, because="it is answered"))[0]
    process = one(recorder, f"process {settings.keys.calls}")

    assert process.parent is not None
    assert (context(process).trace_id, process.parent.span_id) == (TRACE_ID, PARENT_ID)
    assert links(process) == {(TRACE_ID, PARENT_ID)}
    assert reply.result["trace"] == TRACE_ID
    assert reply.result["state"] == ("vendor=1" if more else "")
    assert reply.result["baggage"] == ({"user": "7"} if more else {})
    assert reply.traceparent == written(one(recorder, f"send {settings.prefix}:reply"))


@pytest.mark.parametrize(
    "fields",
    [
        ["traceparent", b"\xff\xfe"],
        ["traceparent", "00-0-0-01"],
        ["traceparent", f"ff{PARENT[2:]}"],
        ["traceparent", "00-" + "0" * 32 + "-b7ad6b7169203331-01"],
        ["traceparent", PARENT, "tracestate", b"\xff=\xff,,=", "baggage", b"\xff=;=,%zz"],
        ["baggage", "only=baggage"],
    ],
)
async def test_trace_fields_that_cannot_be_read_harm_no_call(
    plane: Plane, settings: Settings, recorder: Recorder, fields: list[Any]
) -> None:
    await plane.add("v", "1", "id", "c", "tool", "here", "args", "{}", "reply_to", plane.reply_to, *fields)
    async with running_worker(here, settings=settings, probe=recorder.probe):
        reply = await eventually(lambda: plane.reply("c"), because="it is answered")

    assert reply.status == "ok"
    assert one(recorder, f"process {settings.keys.calls}").status.is_ok


async def test_a_caller_hands_on_its_baggage_and_its_trace_state(
    settings: Settings, recorder: Recorder, client: ToolClient
) -> None:
    token = otel_context.attach(baggage.set_baggage("user", "7"))
    try:
        async with running_worker(here, settings=settings, probe=recorder.probe):
            current = await client.call("here")
            given = await client.call("here", parent=TraceFields(PARENT, "vendor=1", "user=8"))
    finally:
        otel_context.detach(token)

    assert current.result["baggage"] == {"user": "7"}
    assert given.result["baggage"] == {"user": "8"}
    assert given.result["state"] == "vendor=1"
    assert given.result["trace"] == TRACE_ID


async def test_a_trace_that_is_not_sampled_stays_so_inside_the_tool(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.add(
        "v", "1", "id", "c", "tool", "here", "args", "{}", "traceparent", f"{PARENT[:-2]}00", "reply_to", plane.reply_to
    )
    async with running_worker(here, settings=settings, probe=recorder.probe):
        reply = await eventually(lambda: plane.reply("c"), because="it is answered")

    assert recorder.spans == ()
    assert reply.result["trace"] == TRACE_ID
    assert reply.result["sampled"] is False


async def test_attempts_can_be_made_to_link_only(plane: Plane, settings: Settings) -> None:
    recorder = Recorder(settings.keys, link_only=True)
    await plane.add("v", "1", "id", "c", "tool", "echo", "args", "{}", "traceparent", PARENT)
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        await eventually(lambda: recorder.total("toolspan.calls", toolspan_outcome="ok"), because="it is settled")
    process = one(recorder, f"process {settings.keys.calls}")

    assert process.parent is None
    assert context(process).trace_id != TRACE_ID
    assert links(process) == {(TRACE_ID, PARENT_ID)}


async def test_a_call_that_is_tried_again_is_one_trace_of_linked_attempts(
    settings: Settings, recorder: Recorder, client: ToolClient, tmp_path: Path
) -> None:
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await client.call("flaky", {"path": str(tmp_path / "runs"), "good_from": 3})
    attempts = named(recorder, f"process {settings.keys.calls}")
    send = one(recorder, f"send {settings.keys.calls}")

    told = [(a.attributes or {}) for a in attempts]
    assert [a[at.ATTEMPT] for a in told] == [1, 2, 3]
    assert [a[at.DELIVERY] for a in told] == ["first", "retry", "retry"]
    assert [a[at.OUTCOME] for a in told] == ["retried", "retried", "ok"]
    assert [a.get("error.type") for a in told] == ["tool_error", "tool_error", None]
    assert all(is_below(attempt, send) for attempt in attempts)
    assert len(named(recorder, "execute_tool flaky")) == 3
    assert len(named(recorder, f"send {settings.prefix}:reply")) == 1


async def test_an_attempt_links_to_the_one_before(
    settings: Settings, plane: Plane, recorder: Recorder, tmp_path: Path
) -> None:
    async with running_worker(ALL, settings=settings, probe=recorder.probe) as running:
        entry = await plane.append("again", path=str(tmp_path / "runs"), good_from=2)
        await eventually(lambda: plane.reply("again"), because="the second attempt answers")
    first, second = named(recorder, f"process {settings.keys.calls}")
    # The ids of spans are derived from the consumer's name, which the recorder was not told.
    before = span_id_of(Delivery(entry, [], 1, "first", 0, 0, 0), "again", running.consumer)

    assert context(first).trace_id == context(second).trace_id
    assert links(second) == {(context(first).trace_id, before)}


async def test_a_lost_attempt_is_shown_once_by_whoever_takes_the_call_over(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    entry = await plane.append("echo", "orphaned")
    await lose(plane, "dead-1")
    quick = settings.model_copy(update={"lease_ms": 200})
    async with running_worker(toolbox.echo, settings=quick, probe=recorder.probe):
        reply = await eventually(lambda: plane.reply("orphaned"), because="another worker answers")
    ghost, process = named(recorder, f"process {settings.keys.calls}")
    lost_tool, tool_span = named(recorder, "execute_tool echo")

    assert reply.attempt == 2
    assert ghost.status.status_code is StatusCode.ERROR
    assert (ghost.attributes or {}).items() >= {
        "error.type": "worker_lost",
        "messaging.client.id": "dead-1",
        "messaging.message.id": entry,
        "toolspan.attempt": 1,
        "toolspan.outcome": "lost",
    }.items()
    assert ghost.resource.attributes["service.instance.id"] == "dead-1"
    assert is_below(lost_tool, ghost)
    assert is_below(tool_span, process)
    assert context(ghost).trace_id == context(process).trace_id
    assert ids(ghost) in links(process)
    assert (process.attributes or {})[at.DELIVERY] == "reclaim"
    assert (ghost.end_time or 0) <= (process.end_time or 0)


async def test_a_quarantined_call_is_a_span_whose_reply_is_a_span(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.append("echo", "poison")
    await lose(plane, "dead-1", attempts=4)
    quick = settings.model_copy(update={"lease_ms": 200})
    async with running_worker(toolbox.echo, settings=quick, probe=recorder.probe):
        reply = await eventually(lambda: plane.reply("poison"), because="its caller is told")
    letter = (await plane.dead_letters())[0]
    spans = named(recorder, f"process {settings.keys.calls}")
    quarantined = next(s for s in spans if (s.attributes or {})[at.OUTCOME] == "quarantined")

    answer = one(recorder, f"send {settings.prefix}:reply")
    assert reply.failure.type == "quarantined"
    assert reply.traceparent == written(answer)
    assert is_below(answer, quarantined)
    assert letter.traceparent in {written(span) for span in recorder.spans}
    # The attempt that was lost, and the end: no tool was begun here.
    assert len(spans) == 2


async def test_a_dead_letter_without_a_reply_names_a_span_that_was_exported(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.append("fails", reply=False)
    async with running_worker(toolbox.fails, settings=settings, probe=recorder.probe):
        letter = (await eventually(plane.dead_letters, because="it is kept"))[0]

    assert letter.traceparent == written(one(recorder, f"process {settings.keys.calls}"))
    assert len(recorder.spans) == 2


async def test_a_replay_is_a_trace_of_its_own_that_links_to_the_dead_letter(
    plane: Plane, settings: Settings, recorder: Recorder, connection: Connection
) -> None:
    await plane.append("fails", reply=False)
    async with running_worker(toolbox.fails, settings=settings, probe=recorder.probe):
        letter = (await eventually(plane.dead_letters, because="it is kept"))[0]
        store = DeadLetterStore(connection, settings.keys)
        await replay(store, letter, recorder.probe, codec=plane.codec, who="tester")
        again = (await eventually(plane.dead_letters, because="it failed again"))[0]
    first, second = named(recorder, f"process {settings.keys.calls}")

    assert again.id != letter.id
    assert context(first).trace_id != context(second).trace_id
    assert (second.attributes or {})[at.DELIVERY] == "replay"
    send = one(recorder, f"send {settings.keys.calls}")
    assert links(send) == {ids(first)}
    assert is_below(second, send)


async def test_a_given_back_call_that_did_not_run_has_no_span(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    both = running_worker(toolbox.echo, settings=settings, name="other")
    async with both, running_worker(toolbox.about, settings=settings, probe=recorder.probe):
        for number in range(10):
            await plane.append("echo", f"c{number}")
        for number in range(10):
            await eventually(lambda number=number: plane.reply(f"c{number}"), because="the other worker answers")  # type: ignore[misc]

    assert recorder.total("toolspan.attempts", toolspan_outcome="released") > 0
    assert recorder.spans == ()


@pytest.mark.parametrize(
    ("tool_name", "args", "error", "is_error"),
    [
        ("fails", {}, "tool_error", True),
        ("hangs", {}, "timeout", True),
        ("echo", {"text": []}, "invalid_arguments", True),
        ("nobody", {}, "unknown_tool", True),
    ],
)
async def test_a_failure_is_an_error_on_its_spans(  # noqa: PLR0917
    settings: Settings, recorder: Recorder, client: ToolClient, tool_name: str, args: Any, error: str, is_error: bool
) -> None:
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        with pytest.raises(ToolError if error in {"tool_error", "timeout"} else Exception):
            await client.call(tool_name, args)
    process = one(recorder, f"process {settings.keys.calls}")
    tools = [span for span in recorder.spans if span.name.startswith("execute_tool")]

    for span in [process, *tools]:
        assert (span.attributes or {})["error.type"] == error
        assert (span.status.status_code is StatusCode.ERROR) == is_error
        # Exceptions are log events: the conventions deprecate them on spans.
        assert span.events == ()
    assert len(tools) == (error in {"tool_error", "timeout"})


async def test_a_call_past_its_deadline_is_no_error_of_the_worker(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.add("v", "1", "id", "late", "tool", "echo", "args", "{}", "deadline", "1", "reply_to", plane.reply_to)
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        await eventually(lambda: plane.reply("late"), because="it is answered")
    process = one(recorder, f"process {settings.keys.calls}")

    assert (process.attributes or {})["error.type"] == "deadline_exceeded"
    assert process.status.is_ok


async def test_an_idle_worker_makes_no_spans(plane: Plane, settings: Settings, recorder: Recorder) -> None:
    quick = settings.model_copy(update={"lease_ms": 200})
    async with running_worker(toolbox.echo, settings=quick, probe=recorder.probe):
        commands = await _commands(plane)
        # Heartbeats, sweeps and reads of some rounds.
        await eventually(lambda: _more_than(plane, commands + 60), because="it polls")

    assert recorder.spans == ()


async def _commands(plane: Plane) -> int:
    info: Any = await plane.redis.info("stats")
    return int(info["total_commands_processed"])


async def _more_than(plane: Plane, count: int) -> bool:
    return await _commands(plane) > count


async def test_a_reply_that_cannot_be_written_is_no_error_of_the_tool(plane: Plane, settings: Settings) -> None:
    recorder = Recorder(settings.keys)
    wrong = plane.keys.replies("on-purpose")
    await plane.redis.set(wrong, "not a stream")
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await plane.add("v", "1", "id", "c", "tool", "echo", "args", "{}", "reply_to", wrong)
        await eventually(plane.dead_letters, because="it is dead-lettered")
        await eventually(lambda: len(recorder.spans) == 2, because="its spans have ended")

    spans = {span.name.split()[0]: span for span in recorder.spans}
    assert "error.type" not in (spans["execute_tool"].attributes or {})
    assert (spans["process"].attributes or {})["error.type"] == "worker_error"
    assert recorder.points("gen_ai.execute_tool.duration") == [(1, {"gen_ai.tool.name": "echo"})]
