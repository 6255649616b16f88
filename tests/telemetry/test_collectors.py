"""When telemetry fails: calls go on, memory is bounded, the log says it once, and nothing that fits is lost."""

from __future__ import annotations

import json
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.telemetry.collector import Collector, collecting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers

CALLS = 40
FAREWELL = 5.0
SLOW = 0.5


@pytest.fixture
def listening() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def _exporting(endpoint: str, **more: Any) -> dict[str, Any]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_METRIC_EXPORT_INTERVAL": 300,
        "OTEL_BSP_SCHEDULE_DELAY": 100,
        "OTEL_EXPORTER_OTLP_TIMEOUT": 1,
        **more,
    }


def _lines(worker: WorkerProcess, event: str = "") -> list[dict[str, Any]]:
    """The lines of a worker's log; those of *event*, if that is given."""
    # The last one may be half written.
    whole = worker.log.read_text().rpartition("\n")[0]
    lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
    return [line for line in lines if event in {"", line["event"]}]


async def _call(plane: Plane, count: int = CALLS) -> None:
    for number in range(count):
        await plane.append("echo", f"c{number}")
    await eventually(lambda: _answered(plane, count), because="all calls are answered")


async def _answered(plane: Plane, count: int) -> bool:
    return len(await plane.replies()) == count


async def _stop(worker: WorkerProcess) -> float:
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert await worker.exited() == 0
    return time.monotonic() - began


@pytest.mark.parametrize("trouble", ["is absent", "refuses", "hangs", "answers garbage"])
async def test_calls_go_on_while_a_collector_does_not_work_and_both_ends_of_that_are_one_line(
    plane: Plane, workers: Workers, listening: Collector, trouble: str
) -> None:
    port = free_port()
    with ExitStack() as later:
        collector = listening
        endpoint = f"http://127.0.0.1:{port}" if trouble == "is absent" else collector.endpoint
        if trouble == "hangs":
            collector.open.clear()
        else:
            collector.mood = "garbage" if trouble == "answers garbage" else "refuses"
        worker = await workers.start(**_exporting(endpoint))
        await _call(plane)
        await eventually(lambda: _lines(worker, "telemetry.down"), because="the trouble is told")
        if trouble == "is absent":
            collector = later.enter_context(collecting(port))
        collector.mood = "good"
        collector.open.set()
        # All spans of the calls before may be lost by now: it takes another one to show that they get through.
        await plane.append("echo", "again")
        await eventually(lambda: _lines(worker, "telemetry.up"), because="its end is told")
        await _stop(worker)
        counted = collector.sum("toolspan.calls", "gen_ai.tool.name", "toolspan.outcome")
    [down], [up] = _lines(worker, "telemetry.down"), _lines(worker, "telemetry.up")

    assert down["collector"] == endpoint
    assert down["why"]
    assert up["failures"] >= 1
    assert _lines(worker, "library.warned") == []
    assert counted == {("echo", "ok"): CALLS + 1}


@pytest.mark.parametrize("trouble", ["hangs", "is slow"])
async def test_a_collector_keeps_a_worker_from_its_end_no_longer_than_promised(
    plane: Plane, workers: Workers, listening: Collector, trouble: str
) -> None:
    if trouble == "hangs":
        listening.open.clear()
    else:
        # Each of so few spans that they would take it longer than that all together.
        listening.seconds = 2.0
    few = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 10, "OTEL_EXPORTER_OTLP_TIMEOUT": 60}
    worker = await workers.start(**_exporting(listening.endpoint, **few))
    await _call(plane)
    seconds = await _stop(worker)

    # What a process needs besides, on a machine that has much else to do.
    assert seconds < FAREWELL + 5
    assert _lines(worker, "telemetry.down") == []


async def test_a_collector_that_is_slow_costs_no_call_its_time_and_nothing_is_lost_or_told_of_an_outage(
    plane: Plane, workers: Workers, listening: Collector
) -> None:
    listening.seconds = SLOW
    worker = await workers.start(**_exporting(listening.endpoint, OTEL_EXPORTER_OTLP_TIMEOUT=60))
    began = time.monotonic()
    for number in range(CALLS):
        await plane.append("echo", f"c{number}")
        await eventually(lambda number=number: plane.reply(f"c{number}"), because="it is answered")  # type: ignore[misc]
    seconds = time.monotonic() - began
    farewell = await _stop(worker)

    assert seconds < CALLS * SLOW / 2
    assert farewell < FAREWELL + 5
    assert listening.sum("toolspan.calls", "gen_ai.tool.name", "toolspan.outcome") == {("echo", "ok"): CALLS}
    # Process, execute_tool and send of the reply.
    assert len(_spans(listening)) == 3 * CALLS
    assert ("queue_full",) not in listening.sum("otel.sdk.processor.span.processed", "error.type")
    assert [line for line in _lines(worker) if line["event"].startswith("telemetry.")] == []
    assert _lines(worker, "library.warned") == []


@pytest.mark.parametrize("trouble", ["hangs", "is slow"])
async def test_a_queue_does_not_outgrow_its_bound_and_what_it_drops_is_counted(
    plane: Plane, workers: Workers, listening: Collector, trouble: str
) -> None:
    if trouble == "hangs":
        listening.open.clear()
    else:
        listening.seconds = SLOW
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": 10, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": 5, "OTEL_EXPORTER_OTLP_TIMEOUT": 60}
    # Nothing is lost and run again, whatever the machine does meanwhile: that would make spans, too.
    settings = plane.settings.model_copy(update={"lease_ms": 20_000})
    worker = await workers.start(settings=settings, **_exporting(listening.endpoint, **small))
    await _call(plane)
    listening.open.set()
    await eventually(lambda: listening.spans(f"process {plane.keys.calls}"), because="spans arrive again")
    # The last figures are told beside the last spans, and would not wait for those that a slow one still takes.
    await eventually(lambda: sum(_processed(listening).values()) >= 3 * CALLS, because="the rest is taken, and told")
    await _stop(worker)
    processed = _processed(listening)
    queued = [size for _, size, _ in listening.points("otel.sdk.processor.span.queue.size")]

    assert max(queued) <= 10
    assert processed[("queue_full",)] > 0
    # Process, execute_tool and send of the reply.
    assert sum(processed.values()) == 3 * CALLS
    assert processed[("queue_full",)] + len(_spans(listening)) == 3 * CALLS
    assert len(_lines(worker, "telemetry.dropped")) >= 1


def _processed(collector: Collector) -> dict[tuple[Any, ...], float]:
    return collector.sum("otel.sdk.processor.span.processed", "error.type")


def _spans(collector: Collector) -> list[Any]:
    return [span for _, span in collector._spans]


async def test_the_last_export_holds_the_final_counts(plane: Plane, workers: Workers, listening: Collector) -> None:
    worker = await workers.start(**_exporting(listening.endpoint, OTEL_METRIC_EXPORT_INTERVAL=600_000))
    await _call(plane)
    await _stop(worker)

    assert listening.sum("toolspan.calls", "toolspan.outcome") == {("ok",): CALLS}
    assert sum(listening.sum("messaging.client.consumed.messages").values()) == CALLS
    histogram = [point for _, point in listening.histograms("gen_ai.execute_tool.duration")]
    assert histogram[-1].count == CALLS


async def test_a_process_of_ours_tells_what_it_uses_and_only_the_group_is_under_the_name_of_the_group(
    plane: Plane, workers: Workers, listening: Collector
) -> None:
    worker = await workers.start(**_exporting(listening.endpoint))
    await eventually(lambda: listening.points("toolspan.group.length"), because="the group is reported")
    await _stop(worker)
    named = listening.metrics()

    assert {"process.cpu.time", "process.memory.usage", "cpython.gc.collections"} <= named["toolspan-worker"]
    assert [name for name in named["toolspan-worker"] if name.startswith("otel.sdk.")]
    of_group = ("toolspan.group.", "toolspan.dlq.", "toolspan.workers")
    assert [name for name in named["toolspan-monitor"] if not name.startswith(of_group)] == []
    assert [name for name in named["toolspan-worker"] if name.startswith(of_group)] == []
    resources = [resource for resource, *_ in listening.points("toolspan.group.length")]
    for resource in resources:
        assert resource["service.instance.id"] == f"{plane.keys.prefix}:{plane.keys.stream}"
        assert "service.version" not in resource


async def test_each_of_several_processes_counts_what_it_did_itself(
    plane: Plane, workers: Workers, listening: Collector
) -> None:
    """The SDK is started after the fork: nobody counts again what its parent did."""
    parent = workers.spawn("--processes", "2", **_exporting(listening.endpoint))
    await eventually(lambda: _beating(plane, 2), because="both have registered")
    await _call(plane)
    await _stop(parent)

    assert listening.sum("toolspan.calls", "toolspan.outcome") == {("ok",): CALLS}
    instances = {resource["service.instance.id"] for resource, *_ in listening.points("toolspan.calls")}
    assert len(instances) == 2


async def _beating(plane: Plane, count: int) -> bool:
    return len(await plane.beating()) == count
