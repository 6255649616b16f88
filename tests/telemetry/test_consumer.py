"""What a program with its own `process_fn` reports: the same as a worker, under the tool that nobody registered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.telemetry.trees import is_below, one
from toolspan import ToolExecConsumer
from toolspan.telemetry import attributes as at
from toolspan.telemetry.catalog import EVENTS
from toolspan.telemetry.setup import Telemetry
from toolspan.testing import Recorder

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan import Settings

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def asked(settings: Settings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Has the consumer report to the recorder, and gives what it asked for when it started its telemetry."""
    asked: dict[str, Any] = {}

    def start(service: str, **options: Any) -> Telemetry:
        asked.update(options, service=service)
        return Telemetry(recorder.probe, [])

    monkeypatch.setattr("toolspan.worker.consumer.start", start)
    monkeypatch.setenv("TOOLSPAN_PREFIX", settings.prefix)
    return asked


def _consumer(plane: Plane, process_fn: Any) -> ToolExecConsumer:
    return ToolExecConsumer(plane.redis, "program", process_fn, autoclaim_min_idle=plane.settings.lease_ms)


async def _works(payload: dict[str, Any]) -> None:
    del payload


async def _fails(payload: dict[str, Any]) -> None:
    raise KeyError(payload["tool"])


async def test_a_call_of_a_program_has_the_spans_and_phases_of_any_call(
    plane: Plane, recorder: Recorder, asked: dict[str, Any]
) -> None:
    await plane.add("payload", f'{{"tool": "search", "args": {{}}, "traceparent": "{PARENT}"}}')
    consumer = _consumer(plane, _works)
    await consumer.start()
    await eventually(lambda: recorder.total("toolspan.calls", toolspan_outcome="ok"), because="it is settled")
    await consumer.stop()
    process, execute = one(recorder, f"process {plane.keys.calls}"), one(recorder, "execute_tool search")

    assert asked["service"] == "worker"
    assert is_below(execute, process)
    assert (execute.end_time or 0) <= (process.end_time or 0)
    assert {name for name in process.attributes or {} if name.startswith(at.PHASE)} == set(at.PHASES_ON_SPANS)
    # The name is nobody's that we know, so nothing is counted by it.
    assert recorder.total("gen_ai.execute_tool.duration", gen_ai_tool_name="_other") == 1
    assert recorder.total("messaging.client.sent.messages") == 0


async def test_an_exception_of_a_program_is_an_event_with_its_class(
    plane: Plane, recorder: Recorder, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    monkeypatch.setenv("TOOLSPAN_MAX_ATTEMPTS", "1")
    await plane.append("search", "c1")
    consumer = _consumer(plane, _fails)
    await consumer.start()
    await eventually(plane.dead_letters, because="it is dead-lettered")
    await consumer.stop()
    event = dict(recorder.events)["messaging.process.exception"]

    assert event.keys() == set(next(one for one in EVENTS if one.name == "messaging.process.exception").attributes)
    assert event["exception.type"] == "KeyError"
    assert "_fails" in event["exception.stacktrace"]
    assert (one(recorder, "execute_tool search").attributes or {})["error.type"] == "worker_error"


async def test_a_run_that_a_drain_ended_is_a_span_too(
    plane: Plane, recorder: Recorder, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    del asked
    monkeypatch.setenv("TOOLSPAN_DRAIN_SECONDS", "0")
    begun = asyncio.Event()

    async def process(payload: dict[str, Any]) -> None:
        del payload
        begun.set()
        await asyncio.Event().wait()

    await plane.append("search", "c1")
    consumer = _consumer(plane, process)
    await consumer.start()
    await begun.wait()
    await consumer.stop()

    assert (one(recorder, f"process {plane.keys.calls}").attributes or {})[at.OUTCOME] == "released"
    await plane.redis.delete(plane.keys.calls, plane.keys.parked, plane.keys.attempts)


async def test_link_only_holds_for_programs_too(
    plane: Plane, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLSPAN_LINK_ONLY", "true")
    consumer = _consumer(plane, _works)
    await consumer.start()
    await consumer.stop()

    assert asked["link_only"] is True
