"""Text that is no UTF-8 costs itself, and nothing that is exported with it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.telemetry.collector import plain
from toolspan import InvalidArguments, ToolClient, ToolError, tool
from toolspan.model import Delivery, Failed, Run, ToolCall
from toolspan.telemetry.setup import start
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.telemetry.collector import Collector
    from toolspan import Settings

HALF = "half \ud800 surrogate"


class OddError(Exception):
    """Has a message that cannot travel."""


@tool
async def odd() -> None:
    """Raise what cannot travel."""
    raise OddError(HALF)


@tool
async def echo() -> str:
    """Do nothing."""
    return ""


async def test_an_exception_whose_text_is_no_utf8_is_exported_all_the_same(
    settings: Settings, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start("worker", keys=settings.keys, instance_id="w")
    async with running_worker(odd, echo, settings=settings, probe=worker.probe), ToolClient(settings) as client:
        await client.call("echo")
        with pytest.raises(ToolError, match="surrogate"):
            await client.call("odd")
    await asyncio.to_thread(worker.shutdown)
    [(_, record)] = collector.records("gen_ai.execute_tool.exception")
    attributes = plain(record.attributes)

    assert attributes["exception.message"] == "half ? surrogate"
    assert "half ? surrogate" in attributes["exception.stacktrace"]
    for name in ("odd", "echo"):
        assert len(collector.spans(f"call {name}")) == 1
        assert len(collector.spans(f"execute_tool {name}")) == 1
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


async def test_nothing_that_is_told_to_the_probe_can_fail_what_is_exported_with_it(
    settings: Settings, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    probe = telemetry.probe
    call = ToolCall(HALF, HALF, {}, tool_call_id=HALF)
    run = Run(Delivery("1-0", [], 1, "first", 1, 0, 0), call, HALF)
    probe.began(run)
    probe.executed(probe.execute(run))
    failure = Failed("tool_error", HALF, detail={"exception": HALF}, stack=HALF)
    run.outcome = failure
    letter = {"dlq.error_message": HALF, "dlq.stack": HALF}
    probe.reply_traceparent(run)
    probe.dead_lettered(run, "2-1", reason="max_attempts", failure=failure, letter=letter, replied=True)
    probe.loop_stalled(seconds=1, stack=HALF)
    probe.reaped(HALF)
    with pytest.raises(InvalidArguments), probe.calling(tool=HALF, call_id="c", tool_call_id=HALF):
        raise InvalidArguments(Failed("malformed", HALF))
    await asyncio.to_thread(telemetry.shutdown)
    told: list[Any] = [collector.records(f"toolspan.{name}") for name in ("dead_letter", "loop.stalled", "reap")]
    clean = HALF.replace("\ud800", "?")

    assert [len(found) for found in told] == [1, 1, 1]
    assert plain(told[0][0][1].attributes)["dlq.stack"] == clean
    for name in (f"call {clean}", f"send {settings.keys.calls}", f"execute_tool {clean}"):
        [(_, span)] = collector.spans(name)
        assert plain(span.attributes)["gen_ai.tool.name"] == clean
    [(_, process)] = collector.spans(f"process {settings.keys.calls}")
    assert process.status.message == clean
    counted = {attributes["gen_ai.tool.name"] for _, value, attributes in collector.points("toolspan.calls") if value}
    assert counted == {clean}
    assert [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")] == []


async def test_a_call_that_cannot_be_sent_for_its_text_is_exported(settings: Settings, collector: Collector) -> None:
    async with ToolClient(settings) as client:
        with pytest.raises(InvalidArguments):
            await client.call("echo", tool_call_id=HALF)

    [(_, span)] = collector.spans("call echo")
    assert plain(span.attributes)["gen_ai.tool.call.id"] == HALF.replace("\ud800", "?")
