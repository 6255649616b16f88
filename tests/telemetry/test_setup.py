"""Telemetry of several of ours in one process: each has its own, for as long as it is open."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.eventually import eventually
from toolspan import ToolClient, ToolExecConsumer, tool
from toolspan.telemetry.setup import EXPORT_SECONDS, start
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector
    from toolspan import Settings

# As libraries do it: once, when they are imported.
tracer = trace.get_tracer("library")


@tool
async def echo(text: str = "") -> str:
    """Give *text* back."""
    return text


@tool
async def instrumented() -> str:
    """Use a library that is instrumented."""
    with tracer.start_as_current_span("GET"):
        return await _deeper()


@tracer.start_as_current_span("deeper")
async def _deeper() -> str:
    await asyncio.sleep(0.01)
    return "done"


def instances(found: Sequence[tuple[Any, ...]]) -> list[tuple[str, str]]:
    return [(resource["service.name"], resource["service.instance.id"]) for resource, *_ in found]


async def test_every_client_of_a_process_exports_under_its_own_name(settings: Settings, collector: Collector) -> None:
    names = []
    async with running_worker(echo, settings=settings):
        for _ in range(2):
            async with ToolClient(settings) as client:
                assert (await client.call("echo")).trace_id
                names.append(("toolspan-gateway", client.gateway_id))

    assert instances(collector.spans("call echo")) == names
    sent = [point for point in collector.points("messaging.client.sent.messages") if point[1]]
    assert {(*instances([point])[0], point[1]) for point in sent} == {(*name, 1.0) for name in names}


async def test_a_client_that_is_closed_ends_nothing_of_another(settings: Settings, collector: Collector) -> None:
    async with running_worker(echo, settings=settings), ToolClient(settings) as client:
        async with ToolClient(settings) as other:
            await other.call("echo")
        await client.call("echo")

    assert instances(collector.spans("call echo")) == [
        ("toolspan-gateway", other.gateway_id),
        ("toolspan-gateway", client.gateway_id),
    ]


async def test_a_consumer_that_is_started_again_exports_again(
    plane: Plane, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLSPAN_PREFIX", plane.settings.prefix)

    async def process(_: dict[str, Any]) -> None:
        await _deeper()

    client = redis.asyncio.Redis.from_url(plane.settings.redis_url)
    consumer = ToolExecConsumer(client, "own", process, 0.2, 1_000)
    for number in range(2):
        await consumer.start()
        await plane.append("any", f"c{number}", reply=False)
        await eventually(lambda: _nothing_left(plane), because="it is processed")
        await consumer.stop()
    await client.aclose()
    processes = collector.spans(f"process {plane.keys.calls}")

    assert len(set(instances(processes))) == 2
    assert {name for name, _ in instances(processes)} == {"toolspan-worker"}
    assert instances(collector.spans("deeper")) == instances(processes)
    for metric in ("toolspan.calls", "toolspan.attempts"):
        counted = [point for point in collector.points(metric) if point[1]]
        assert set(instances(counted)) == set(instances(processes)), metric


async def test_what_a_library_records_inside_a_tool_lands_below_it_and_with_its_worker(
    plane: Plane, settings: Settings, collector: Collector
) -> None:
    first = start("worker", keys=settings.keys, instance_id="first")
    second = start("worker", keys=settings.keys, instance_id="second")
    async with running_worker(instrumented, settings=settings, probe=first.probe):
        await plane.append("instrumented")
        await eventually(lambda: plane.reply("instrumented"), because="it is answered")
    first.shutdown()
    async with running_worker(instrumented, settings=settings, probe=second.probe):
        await plane.append("instrumented", "again")
        await eventually(lambda: plane.reply("again"), because="it is answered")
    second.shutdown()
    executions = [span for _, span in collector.spans("execute_tool instrumented")]
    requests = [span for _, span in collector.spans("GET")]
    deeper = [span for _, span in collector.spans("deeper")]

    assert [span.parent_span_id for span in requests] == [span.span_id for span in executions]
    assert [span.parent_span_id for span in deeper] == [span.span_id for span in requests]
    assert [name for _, name in instances(collector.spans("GET"))] == ["first", "second"]
    assert [name for _, name in instances(collector.spans("deeper"))] == ["first", "second"]
    # It lasts as long as what it wraps, also where that is awaited.
    assert all(span.end_time_unix_nano - span.start_time_unix_nano > 5_000_000 for span in deeper)


async def test_nothing_is_recorded_of_a_library_while_no_worker_is_open(
    settings: Settings, collector: Collector
) -> None:
    start("worker", keys=settings.keys, instance_id="closed").shutdown()
    async with ToolClient(settings):
        with tracer.start_as_current_span("of the program") as span:
            assert not span.is_recording()

    assert collector.spans("of the program") == []


async def test_a_provider_that_the_program_has_set_up_is_used_as_it_is(
    settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: own)
    async with running_worker(echo, settings=settings):
        for _ in range(2):
            async with ToolClient(settings) as client:
                await client.call("echo")

    assert [span.name for span in kept.get_finished_spans()].count("call echo") == 2
    assert collector.spans("call echo") == []
    own.shutdown()


async def test_a_worker_exports_its_counters_at_zero_before_it_reads(plane: Plane, collector: Collector) -> None:
    settings = plane.settings
    await plane.add("no", "call")
    collector.open.clear()
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    opening = asyncio.create_task(asyncio.to_thread(_open_when_asked, collector))
    async with running_worker(echo, settings=settings, probe=telemetry.probe):
        await opening
        await eventually(plane.dead_letters, because="the entry is quarantined")
    await asyncio.to_thread(telemetry.shutdown)
    malformed = [
        value
        for _, value, attributes in collector.points("toolspan.dead_letters")
        if attributes == {"gen_ai.tool.name": "_other", "toolspan.reason": "malformed"}
    ]
    outcomes = {attributes["toolspan.outcome"] for _, value, attributes in collector.points("toolspan.calls")}

    assert malformed == [0, 1]
    assert {"ok", "tool_error", "quarantined", "timeout"} <= outcomes


async def test_a_collector_that_hangs_delays_the_start_of_a_worker_by_little(
    plane: Plane, collector: Collector
) -> None:
    collector.open.clear()
    telemetry = start("worker", keys=plane.keys, instance_id="w")
    began = time.monotonic()
    telemetry.probe.worker_started("w", ["echo"], concurrency=1)
    seconds = time.monotonic() - began

    assert collector.asked.is_set()
    assert seconds < EXPORT_SECONDS * 3
    collector.open.set()
    telemetry.shutdown()


def _open_when_asked(collector: Collector) -> None:
    """Let the first export through once it has come, while nothing was read yet."""
    assert collector.asked.wait(10)
    collector.open.set()


async def _nothing_left(plane: Plane) -> bool:
    return await plane.left() == 0
