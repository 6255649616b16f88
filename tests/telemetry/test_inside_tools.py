"""What a tool sees of its trace: its own span, below which its libraries record, and its caller's baggage."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, trace

from tests.support.eventually import eventually
from tests.telemetry.trees import ids, one
from toolspan import current_call, tool
from toolspan.model import TraceFields
from toolspan.telemetry.setup import start
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector
    from toolspan import Settings, ToolClient
    from toolspan.testing import Recorder

tracer = trace.get_tracer("library")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _seen() -> dict[str, Any]:
    span = trace.get_current_span()
    span.set_attribute("seen.by", "the tool")
    context = span.get_span_context()
    return {
        "ids": [context.trace_id, context.span_id],
        "baggage": current_call().baggage,
        "of the api": {name: str(value) for name, value in baggage.get_all().items()},
    }


@tool
async def on_the_loop() -> dict[str, Any]:
    """Tell what is seen."""
    return _seen()


@tool
def in_a_thread() -> dict[str, Any]:
    """Tell what is seen."""
    return _seen()


@tool
def instrumented_in_a_thread() -> None:
    """Use a library that is instrumented."""
    with tracer.start_as_current_span("GET"):
        pass


@pytest.mark.parametrize("function", [on_the_loop, in_a_thread])
async def test_the_current_span_is_that_of_the_tool_and_baggage_is_the_callers(
    settings: Settings, recorder: Recorder, client: ToolClient, function: Any
) -> None:
    name = function.__name__
    async with running_worker(function, settings=settings, probe=recorder.probe):
        reply = await client.call(name, parent=TraceFields(PARENT, None, "user=7,team=blue%20one"))
    span = one(recorder, f"execute_tool {name}")

    assert tuple(reply.result["ids"]) == ids(span)
    # It is the real one: what the tool says of itself is exported.
    assert (span.attributes or {})["seen.by"] == "the tool"
    assert reply.result["baggage"] == reply.result["of the api"] == {"user": "7", "team": "blue one"}


@pytest.mark.parametrize("function", [on_the_loop, in_a_thread])
async def test_without_telemetry_a_tool_sees_the_baggage_all_the_same(
    plane: Plane, settings: Settings, function: Any
) -> None:
    probe = start("worker", keys=settings.keys, instance_id="w").probe
    name = function.__name__
    async with running_worker(function, settings=settings, probe=probe):
        await plane.add(
            "v", "1", "id", "c", "tool", name, "args", "{}", "reply_to", plane.reply_to, "baggage", "user=7"
        )
        reply = await eventually(lambda: plane.reply("c"), because="it is answered")

    assert reply.result["baggage"] == {"user": "7"}


async def test_a_tool_whose_caller_sent_no_baggage_has_none(settings: Settings, client: ToolClient) -> None:
    async with running_worker(on_the_loop, settings=settings):
        reply = await client.call("on_the_loop")

    assert reply.result["baggage"] == {}


async def test_what_a_library_records_in_a_thread_lands_below_its_tool(
    plane: Plane, settings: Settings, collector: Collector
) -> None:
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    async with running_worker(instrumented_in_a_thread, settings=settings, probe=telemetry.probe):
        await plane.append("instrumented_in_a_thread", "c")
        await eventually(lambda: plane.reply("c"), because="it is answered")
    await asyncio.to_thread(telemetry.shutdown)
    [(_, execute)] = collector.spans("execute_tool instrumented_in_a_thread")
    [(_, request)] = collector.spans("GET")

    assert (request.trace_id, request.parent_span_id) == (execute.trace_id, execute.span_id)
