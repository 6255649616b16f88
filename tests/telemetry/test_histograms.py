"""Histograms that we count ourselves are what the SDK would have made of the same numbers, with better examples."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan import ToolClient
from toolspan.telemetry import catalog
from toolspan.telemetry.histograms import Histograms, JoiningMemory, Sampled
from toolspan.telemetry.instruments import Histogram, Instruments
from toolspan.telemetry.setup import start
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from opentelemetry.sdk.metrics.export import HistogramDataPoint

    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector
    from toolspan import Settings
    from toolspan.testing import Recorder

SECONDS = (0.0, 0.0009, 0.001, 0.0011, 0.02, 0.02, 299.9, 300, 301)
EXAMPLE = Sampled(trace_id=7, span_id=8)

WITH_EXAMPLES = (
    "messaging.client.operation.duration",
    "messaging.process.duration",
    "gen_ai.execute_tool.duration",
    "toolspan.call.duration",
    "toolspan.phase.duration",
    "toolspan.lease.margin",
)


@asynccontextmanager
async def _working(settings: Settings) -> AsyncIterator[None]:
    """A worker that exports."""
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    async with running_worker(toolbox.echo, settings=settings, probe=telemetry.probe):
        yield
    await asyncio.to_thread(telemetry.shutdown)


def _recorded(histogram: Histogram, reader: InMemoryMetricReader) -> list[Any]:
    for seconds in SECONDS:
        histogram.record(seconds, "queue", "echo", sampled=EXAMPLE)
        histogram.record(seconds, "settle", "")
    data = reader.get_metrics_data()
    assert data is not None
    [metric] = [
        m for s in data.resource_metrics[0].scope_metrics for m in s.metrics if m.name == catalog.PHASE_DURATION.name
    ]
    assert (metric.unit, metric.description) == ("s", catalog.PHASE_DURATION.meaning)
    return sorted(metric.data.data_points, key=lambda point: str(point.attributes))


def test_the_numbers_are_those_of_the_sdk() -> None:
    ours, theirs = Histograms("toolspan", "1"), InMemoryMetricReader()
    joining = JoiningMemory(ours)
    meters = [
        MeterProvider([reader], shutdown_on_exit=False).get_meter("toolspan", "1") for reader in (joining, theirs)
    ]
    counted = Instruments(meters[0], ours), Instruments(meters[1])
    counted[0].reaps.add(count=0)
    mine = _recorded(counted[0].phase_duration, joining)
    reference = _recorded(counted[1].phase_duration, theirs)

    for point, expected in zip(mine, reference, strict=True):
        for field in ("attributes", "count", "sum", "bucket_counts", "explicit_bounds", "min", "max"):
            assert getattr(point, field) == pytest.approx(getattr(expected, field)), field
        assert point.start_time_unix_nano <= point.time_unix_nano
        traced = {(one.trace_id, one.span_id) for one in point.exemplars}
        assert traced == {(one.trace_id, one.span_id) for one in expected.exemplars}
    assert [bool(point.exemplars) for point in mine] == [True, False]


@given(
    seconds=st.lists(st.sampled_from([*SECONDS, *catalog.PHASE_DURATION.buckets]) | st.floats(0, 500), min_size=1),
    exemplary=st.lists(st.booleans()),
)
def test_many_at_once_are_counted_as_one_by_one(seconds: list[float], exemplary: list[bool]) -> None:
    ours = Histograms("toolspan", "1")
    histogram = ours.make(catalog.PHASE_DURATION)
    examples = {
        one: Sampled(number, number)
        for number, (one, is_one) in enumerate(zip(seconds, exemplary, strict=False))
        if is_one
    }
    for one in seconds:
        histogram.record(one, "settle", "", sampled=examples.get(one))
    histogram.bound("queue", "")(list(seconds), examples.items())
    singly, at_once = histogram.points(0, 1)

    for field in ("count", "bucket_counts", "min", "max"):
        assert getattr(at_once, field) == getattr(singly, field), field
    assert at_once.sum == pytest.approx(singly.sum)
    assert _exemplary_buckets(at_once) == _exemplary_buckets(singly)
    assert all(examples[one.value].span_id == one.span_id for one in at_once.exemplars)


def _exemplary_buckets(point: HistogramDataPoint) -> list[int]:
    return sorted(bisect_left(point.explicit_bounds, one.value) for one in point.exemplars)


def test_an_example_is_exported_once_and_the_counts_go_on() -> None:
    ours = Histograms("toolspan", "1")
    joining = JoiningMemory(ours)
    instruments = Instruments(MeterProvider([joining], shutdown_on_exit=False).get_meter("toolspan", "1"), ours)
    instruments.reaps.add(count=0)
    first = _recorded(instruments.phase_duration, joining)
    again = _recorded(instruments.phase_duration, joining)

    assert [point.count for point in again] == [2 * point.count for point in first]
    assert len(again[0].exemplars) == len({one.value for one in again[0].exemplars}) == 5


async def test_every_latency_of_a_call_has_an_example_in_its_trace(settings: Settings, collector: Collector) -> None:
    async with _working(settings), ToolClient(settings) as client:
        reply = await client.call("echo")

    for name in WITH_EXAMPLES:
        points = collector.histograms(name)
        traces = {one.trace_id.hex() for _, point in points for one in point.exemplars}
        assert traces == {reply.trace_id}, name
    assert collector.histograms("toolspan.loop.lag")


async def test_what_is_not_sampled_is_no_example(
    settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    async with _working(settings), ToolClient(settings) as client:
        await client.call("echo")

    for name in WITH_EXAMPLES:
        points = [point for _, point in collector.histograms(name)]
        assert sum(point.count for point in points), name
        assert [one for point in points for one in point.exemplars] == [], name


async def test_who_prefers_other_histograms_gets_those_of_the_sdk(
    settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    async with _working(settings), ToolClient(settings) as client:
        for _ in range(2):
            await client.call("echo")

    points = [point for _, point in collector.histograms("toolspan.call.duration")]
    assert sum(point.count for point in points) == 2
    assert {one.trace_id for point in points for one in point.exemplars}


async def test_the_margin_of_a_lease_is_counted_from_its_last_renewal(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    slow = settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 600_000})
    async with running_worker(toolbox.echo, settings=slow, probe=recorder.probe):
        await plane.append("echo")
        await eventually(lambda: plane.reply("echo"), because="it is settled")
    [(count, _)] = recorder.points("toolspan.lease.margin")
    [point] = recorder.data_points("toolspan.lease.margin")

    assert count == 1
    assert 30 < point.sum <= 60
