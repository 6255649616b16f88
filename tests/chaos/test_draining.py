"""SIGTERM: what is held is finished or given back, and nothing is left."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers


def _starts(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


async def test_a_stopping_worker_finishes_what_it_holds(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    worker = await workers.start()
    await plane.append("marked", path=str(runs), seconds=1)
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    worker.signal(signal.SIGTERM)

    assert await worker.exited() == 0
    assert (await plane.reply("marked")).result == 1  # type: ignore[union-attr]
    assert await plane.consumers() == []
    assert await plane.beating() == []


async def test_a_second_sigterm_gives_back_what_still_runs(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    worker = await workers.start()
    await plane.append("until", path=str(runs), release=str(release))
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    worker.signal(signal.SIGTERM)
    await eventually(lambda: "drain.started" in worker.log.read_text(), because="the drain begins")
    worker.signal(signal.SIGTERM)

    assert await worker.exited() == 0
    release.touch()
    await workers.start(name="next")
    reply = await eventually(lambda: plane.reply("until"), because="the next worker runs what was given back")

    assert reply.result == 2
    # What a drain ended was no attempt.
    assert reply.attempt == 1


async def test_a_thread_that_outlives_the_drain_is_left_behind(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    settings = plane.settings.model_copy(update={"drain_seconds": 0.2})
    worker = await workers.start(settings=settings)
    await plane.append("marked.sync", "c", path=str(runs), seconds=30)
    await eventually(lambda: _starts(runs) == 1, because="the tool runs in its thread")
    worker.signal(signal.SIGTERM)

    assert await worker.exited() == 0
    assert await plane.left() == 1


async def test_a_tool_that_cannot_be_cancelled_is_left_behind(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    settings = plane.settings.model_copy(update={"drain_seconds": 0.2})
    worker = await workers.start(settings=settings)
    await plane.append("stubborn", path=str(runs))
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    worker.signal(signal.SIGTERM)

    assert await worker.exited() == 0
    assert await plane.left() == 1


async def test_nobody_says_how_long_a_tool_took_that_is_left_behind(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    worker = await workers.start(settings=plane.settings.model_copy(update={"drain_seconds": 0.2}))
    await plane.append("stubborn.once", path=str(runs))
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    worker.signal(signal.SIGTERM)
    code = await worker.exited()
    reply = await plane.reply("stubborn.once")

    assert code == 0
    assert reply
    assert reply.failure
    assert reply.failure.type == "outcome_unknown"
    assert reply.timings.execute is None


async def test_a_drained_call_that_runs_at_most_once_is_for_a_person_to_decide(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    settings = plane.settings.model_copy(update={"drain_seconds": 0.2})
    worker = await workers.start(settings=settings)
    await plane.append("once", path=str(runs), seconds=60)
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    worker.signal(signal.SIGTERM)

    assert await worker.exited() == 0
    reply = await plane.reply("once")
    assert reply
    assert reply.failure
    assert reply.failure.type == "outcome_unknown"
    # Nothing was lost: somebody had it stopped.
    assert reply.failure.message.startswith("the call was begun and its worker was stopped")
    assert await plane.left() == 0
    [told] = [json.loads(line) for line in worker.log.read_text().splitlines() if '"drain.finished"' in line]
    assert (told["released"], told["quarantined"], told["left"]) == (0, 1, 0)


async def test_sigterm_right_at_the_start_ends_in_order(plane: Plane, workers: Workers) -> None:
    worker = workers.spawn()
    worker.signal(signal.SIGTERM)

    # Before Python itself can hear it, a signal still has its own meaning.
    assert await worker.exited() in {0, -signal.SIGTERM}
    assert await plane.beating() == []


async def test_a_supervised_worker_drains_with_its_parent(plane: Plane, workers: Workers) -> None:
    parent = await workers.start("--processes", "2")
    await eventually(lambda: _two(plane), because="both children have registered")
    parent.signal(signal.SIGTERM)

    assert await parent.exited() == 0
    assert await plane.beating() == []


async def test_children_do_not_outlive_a_parent_that_is_killed(plane: Plane, workers: Workers) -> None:
    parent = await workers.start("--processes", "2")
    await eventually(lambda: _two(plane), because="both children have registered")
    parent.kill()

    await eventually(lambda: _none(plane), because="the orphaned children drain and leave")


async def _two(plane: Plane) -> bool:
    return len(await plane.beating()) == 2


async def _none(plane: Plane) -> bool:
    return not await plane.beating()
