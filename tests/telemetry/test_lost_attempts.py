"""Attempts of workers that are killed or frozen for real stand in the trace, each exactly once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from tests.telemetry.collector import plain
from toolspan.telemetry import propagation

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers
    from tests.telemetry.collector import Collector

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"

AGE: Final = """
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2]) == 0 then return 0 end
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', 60000, 'JUSTID')
return 1
"""
"""Make a delivery look old, and tell whether its owner still had it: looking first might take it back from the next."""


@pytest.fixture
def tools(workers: Workers, collector: Collector) -> Tools:
    return Tools(workers, collector)


class Tools:
    """Workers with instrumented tools."""

    def __init__(self, workers: Workers, collector: Collector) -> None:
        self._workers = workers
        self._collector = collector

    async def start(self, name: str, *, attempts: int = 4, batch_ms: int = 20, lease_ms: int = 1_000) -> WorkerProcess:
        """Start a worker that exports its spans every *batch_ms*."""
        return await self._workers.start(
            "--tools",
            "tests.telemetry.instrumented",
            name=name,
            TOOLSPAN_MAX_ATTEMPTS=attempts,
            TOOLSPAN_LEASE_MS=lease_ms,
            OTEL_EXPORTER_OTLP_ENDPOINT=self._collector.endpoint,
            OTEL_BSP_SCHEDULE_DELAY=batch_ms,
        )


async def _call(plane: Plane, tool: str, call_id: str, files: Path, *, trace: str = PARENT) -> str:
    args = f'{{"path": "{files / "runs"}", "release": "{files / "release"}"}}'
    more = ("traceparent", trace) if trace else ()
    return await plane.add("v", "1", "id", call_id, "tool", tool, "args", args, "reply_to", plane.reply_to, *more)


def _instance(found: tuple[dict[str, Any], Any]) -> str:
    return str(found[0]["service.instance.id"])


def _spans_of(collector: Collector, name: str) -> list[tuple[dict[str, Any], Any]]:
    """The spans of this name, in the order in which they began."""
    return sorted(collector.spans(name), key=lambda found: found[1].start_time_unix_nano)


def _no_id_came_twice(collector: Collector) -> bool:
    ids = [span.span_id for _, span in collector.every_span()]
    return len(ids) == len(set(ids))


async def test_the_attempt_of_a_killed_worker_stands_in_the_trace_with_what_it_had_exported_below(
    plane: Plane, tools: Tools, collector: Collector, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    doomed = await tools.start("doomed")
    before_ms = await plane.now_ms()
    entry_id = await _call(plane, "steps", "c", tmp_path)
    await eventually(lambda: collector.spans("step"), because="the first worker has exported a step")
    began_ms = await plane.now_ms()
    doomed.kill()
    killed_ms = await plane.now_ms()
    release.touch()
    survivor = await tools.start("survivor")
    await eventually(lambda: plane.reply("c"), because="another worker answers")
    survivor.signal(signal.SIGTERM)
    await survivor.exited()
    lost, process = _spans_of(collector, f"process {plane.keys.calls}")
    lost_tool, tool = _spans_of(collector, "execute_tool steps")
    step, again = _spans_of(collector, "step")

    assert starts(runs) == 2
    assert _no_id_came_twice(collector)
    assert {span.trace_id.hex() for _, span in (lost, process, lost_tool, tool, step, again)} == {TRACE_ID}
    # Whose it was, and under what it hangs.
    dead = _instance(step)
    assert dead.startswith(f"doomed-{doomed.pid}-")
    assert _instance(lost) == _instance(lost_tool) == dead
    assert (lost[0]["process.pid"], lost[0]["service.name"]) == (doomed.pid, "toolspan-worker")
    assert lost[0]["service.version"] == step[0]["service.version"]
    assert [span.parent_span_id.hex() for _, span in (lost, process)] == [PARENT_ID, PARENT_ID]
    assert step[1].parent_span_id == lost_tool[1].span_id
    assert lost_tool[1].parent_span_id == lost[1].span_id
    assert again[1].parent_span_id == tool[1].span_id
    # What became of it.
    told = plain(lost[1].attributes)
    assert (
        told.items()
        >= {
            "error.type": "worker_lost",
            "toolspan.outcome": "lost",
            "toolspan.attempt": 1,
            "toolspan.delivery": "first",
            "messaging.client.id": dead,
            "messaging.message.id": entry_id,
            "messaging.message.conversation_id": "c",
            "gen_ai.tool.name": "steps",
        }.items()
    )
    assert lost[1].status.code == lost_tool[1].status.code == 2
    assert lost[1].span_id in {link.span_id for link in process[1].links}
    # When: from its delivery to the claim, which came a lease after the last heartbeat.
    assert before_ms <= lost[1].start_time_unix_nano // 10**6 <= began_ms
    assert killed_ms <= lost[1].end_time_unix_nano // 10**6 <= process[1].start_time_unix_nano // 10**6 + 1_000
    assert lost[1].start_time_unix_nano <= step[1].start_time_unix_nano <= lost[1].end_time_unix_nano
    # And the event says the same.
    [(_, record)] = collector.records("toolspan.attempt.lost")
    assert (record.trace_id.hex(), record.span_id) == (TRACE_ID, lost[1].span_id)
    assert plain(record.attributes)["messaging.client.id"] == dead


async def test_a_frozen_worker_tells_nothing_of_the_attempt_that_was_taken_from_it(
    plane: Plane, tools: Tools, collector: Collector, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    frozen = await tools.start("frozen")
    await _call(plane, "steps", "c", tmp_path, trace="")
    await eventually(lambda: collector.spans("step"), because="it runs")
    frozen.signal(signal.SIGSTOP)
    release.touch()
    other = await tools.start("other")
    await eventually(lambda: plane.reply("c"), because="another worker answers")
    frozen.signal(signal.SIGCONT)
    await eventually(
        lambda: collector.records("toolspan.stale_result") or collector.records("toolspan.lease.lost"),
        because="its result is refused, or its run cancelled",
    )
    for worker in (frozen, other):
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    lost, process = _spans_of(collector, f"process {plane.keys.calls}")
    lost_tool, _ = _spans_of(collector, "execute_tool steps")
    events = collector.records("toolspan.stale_result") + collector.records("toolspan.lease.lost")

    assert _no_id_came_twice(collector)
    assert _instance(lost).startswith("frozen-")
    assert _instance(process).startswith("other-")
    assert collector.spans("step")[0][1].parent_span_id == lost_tool[1].span_id
    # The call brought no trace: its id is derived, and all that happened to it is in one trace all the same.
    assert lost[1].trace_id == process[1].trace_id
    [(resource, record)] = events
    assert resource["service.instance.id"] == _instance(lost)
    assert (record.trace_id, record.span_id) == (lost[1].trace_id, lost[1].span_id)


async def test_a_worker_that_lives_has_let_its_lease_expire(
    plane: Plane, tools: Tools, collector: Collector, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    # So long that it ends for what is made to look old, and for nothing else.
    first = await tools.start("first", lease_ms=5_000)
    entry_id = await _call(plane, "steps", "c", tmp_path)
    await eventually(lambda: collector.spans("step"), because="it runs")
    owner = (await plane.pending())[entry_id][0]
    second = await tools.start("second", lease_ms=5_000)

    async def taken() -> bool:
        # Its heart beats: what it holds looks old only until its next heartbeat.
        return not await plane.redis.eval(AGE, 1, plane.keys.calls, plane.keys.group, owner, entry_id)

    await eventually(taken, because="the other worker takes it over")
    release.touch()
    await eventually(lambda: plane.reply("c"), because="it is answered")
    for worker in (first, second):
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    lost, _ = _spans_of(collector, f"process {plane.keys.calls}")

    assert _no_id_came_twice(collector)
    assert plain(lost[1].attributes)["error.type"] == "lease_expired"
    assert {plain(record.attributes)["toolspan.reason"] for _, record in collector.records("toolspan.reclaim")} == {
        "lease_expired"
    }


async def test_poison_is_one_trace_with_every_attempt_and_its_end(
    plane: Plane, tools: Tools, collector: Collector, tmp_path: Path
) -> None:
    await _call(plane, "kills", "c", tmp_path)
    # None of them lives until its batch is due: what it has to tell of the one before does not wait for that.
    doomed = [await tools.start(f"doomed{number}", attempts=3, batch_ms=60_000) for number in range(3)]
    for worker in doomed:
        assert await worker.exited() == 9
    survivor = await tools.start("survivor", attempts=3)
    reply = await eventually(lambda: plane.reply("c"), because="its caller is told")
    survivor.signal(signal.SIGTERM)
    assert await survivor.exited() == 0
    *lost, end = _spans_of(collector, f"process {plane.keys.calls}")

    assert reply.failure.type == "quarantined"
    assert _no_id_came_twice(collector)
    assert [plain(span.attributes)["toolspan.attempt"] for _, span in lost] == [1, 2, 3]
    assert [plain(span.attributes)["toolspan.delivery"] for _, span in lost] == ["first", "reclaim", "reclaim"]
    assert sorted(_instance(one).partition("-")[0] for one in lost) == ["doomed0", "doomed1", "doomed2"]
    assert len(collector.spans("execute_tool kills")) == 3
    assert {span.trace_id.hex() for _, span in (*lost, end)} == {TRACE_ID}
    # What ends without a start is a span of its own, which links to the last one that was lost; as each to the before.
    assert plain(end[1].attributes)["toolspan.outcome"] == "quarantined"
    for before, after in zip(lost, [*lost[1:], end], strict=True):
        assert before[1].span_id in {link.span_id for link in after[1].links}
    [letter] = await plane.dead_letters()
    parent = propagation.parse(letter.traceparent)
    assert parent is not None
    assert parent.span_id == int.from_bytes(end[1].span_id)


async def test_a_call_that_may_not_run_twice_and_was_lost_is_shown_with_its_end(
    plane: Plane, tools: Tools, collector: Collector, tmp_path: Path
) -> None:
    doomed = await tools.start("doomed")
    await _call(plane, "steps_once", "c", tmp_path)
    await eventually(lambda: collector.spans("step"), because="it runs")
    doomed.kill()
    survivor = await tools.start("survivor")
    reply = await eventually(lambda: plane.reply("c"), because="its caller is told")
    survivor.signal(signal.SIGTERM)
    assert await survivor.exited() == 0
    lost, end = _spans_of(collector, f"process {plane.keys.calls}")

    assert reply.failure.type == "outcome_unknown"
    assert _no_id_came_twice(collector)
    assert plain(lost[1].attributes)["toolspan.outcome"] == "lost"
    assert plain(end[1].attributes)["toolspan.outcome"] == "outcome_unknown"
    assert lost[1].span_id in {link.span_id for link in end[1].links}
