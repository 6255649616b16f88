"""Metrics, summed over all processes, say exactly what Redis and the tools' own files say."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts, starts_in
from tests.telemetry.collector import Collector, collecting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers

QUICK = 30


@pytest.fixture
def listening() -> Iterator[Collector]:
    with collecting() as made:
        yield made


async def test_what_was_counted_is_what_happened_with_workers_killed_and_dead_letters(
    plane: Plane, workers: Workers, listening: Collector, tmp_path: Path
) -> None:
    exporting: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": listening.endpoint, "OTEL_METRIC_EXPORT_INTERVAL": 200}
    runs, release = tmp_path / "runs", tmp_path / "release"
    runs.mkdir()
    doomed = await workers.start(**exporting)
    held = [f"held-{number}" for number in range(4)]
    for name in held:
        await plane.append("until", name, path=str(runs / name), release=str(release))
    await eventually(lambda: len(starts_in(runs)) == len(held), because="it holds them")
    # What a killed worker has not exported is lost: so that nothing is, it has to have told of what it did.
    await eventually(lambda: _consumed(listening) == {("receive",): len(held)}, because="it has exported that")
    doomed.kill()
    survivors = [await workers.start(**exporting) for _ in range(2)]
    for number in range(QUICK):
        await plane.append("marked", f"quick-{number}", path=str(runs / f"quick-{number}"))
    for number in range(3):
        await plane.append("flaky", f"flaky-{number}", path=str(runs / f"flaky-{number}"), good_from=2)
        await plane.append("fails", f"fails-{number}")
        await plane.append("fails", f"silent-{number}", reply=False)
    await plane.add("no", "call")
    release.touch()
    await eventually(lambda: _nothing_left(plane), because="every call has its end", within=60)
    for worker in survivors:
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    replies, letters = await plane.replies(), await plane.dead_letters()
    outcomes = [reply.failure.type if reply.failure else "ok" for reply in replies]
    began = sum(starts(path) for path in runs.iterdir())

    ends: dict[tuple[str], float] = {}
    # A silent end is a dead letter alone: no reply tells of it.
    for outcome in [*outcomes, *(letter.error_type for letter in letters)]:
        ends[(outcome,)] = ends.get((outcome,), 0) + 1
    assert len(replies) == len(held) + QUICK + 3 + 3
    assert listening.sum("toolspan.calls", "toolspan.outcome") == ends
    reasons: dict[tuple[str, str], float] = {}
    for letter in letters:
        key = ("_other" if letter.reason == "malformed" else "fails", letter.reason)
        reasons[key] = reasons.get(key, 0) + 1
    assert listening.sum("toolspan.dead_letters", "gen_ai.tool.name", "toolspan.reason") == reasons
    assert listening.sum("toolspan.reclaims", "toolspan.reason") == {("worker_lost",): len(held)}
    attempts = listening.sum("toolspan.attempts", "gen_ai.tool.name", "toolspan.outcome")
    marked = {key: count for key, count in attempts.items() if key[0] in {"until", "marked", "flaky"}}
    assert sum(marked.values()) == began
    assert attempts[("until", "lost")] == len(held)
    assert attempts[("flaky", "retried")] == 3
    read = len(held) + QUICK + 9 + 1
    assert _consumed(listening) == {("receive",): read, ("claim",): len(held) + 3}
    assert listening.sum("messaging.client.consumed.messages", "error.type")[("malformed",)] == 1
    assert listening.sum("messaging.client.sent.messages", "messaging.destination.template") == {
        (f"{plane.keys.prefix}:reply",): len(replies)
    }


def _consumed(collector: Collector) -> dict[tuple[Any, ...], float]:
    return collector.sum("messaging.client.consumed.messages", "messaging.operation.name")


async def _nothing_left(plane: Plane) -> bool:
    return await plane.left() == 0 and await plane.pending() == {}
