"""The parent of several workers is ready when every child is."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.support.health import READY, Health
from tests.support.runs import starts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers

TWO = ("--processes", "2", "--health-port", "0")
UNREADY = "processes_unready"


@pytest.fixture
def frozen() -> Iterator[set[int]]:
    """Processes that a test has stopped; they are woken in any case."""
    pids: set[int] = set()
    yield pids
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


async def _of_two(workers: Workers) -> tuple[WorkerProcess, Health]:
    parent = await workers.start(*TWO)
    health = await Health.of(parent)
    await health.becomes(READY)
    return parent, health


async def _pids(plane: Plane) -> list[int]:
    return [int(name.split("-")[-2]) for name in await plane.beating()]


async def _unready(health: Health) -> list[dict[str, Any]]:
    """Give what the parent says of the children that are not ready."""
    error = await health.error()
    return list(error["detail"]) if error else []


async def test_two_processes_are_ready_only_when_both_are(plane: Plane, workers: Workers) -> None:
    health = await Health.of(workers.spawn(*TWO))
    joined, live, first = await plane.beating(), await health.live(), await health.error()

    async def ready() -> list[str]:
        return await plane.beating() if await health.state() == READY else []

    at_ready = await eventually(ready, because="both are ready")

    assert joined == []
    assert live
    assert first["type"] == UNREADY
    assert first["message"].startswith("2 of 2 worker processes are not ready; process 1: ")
    assert [about["process"] for about in first["detail"]] == [1, 2]
    assert len(at_ready) == 2


async def test_a_parent_is_not_ready_while_a_child_is_frozen(plane: Plane, workers: Workers, frozen: set[int]) -> None:
    _, health = await _of_two(workers)
    pid = (await _pids(plane))[0]
    os.kill(pid, signal.SIGSTOP)
    frozen.add(pid)
    await health.becomes(UNREADY)
    [about] = await _unready(health)
    os.kill(pid, signal.SIGCONT)
    await health.becomes(READY)

    assert (about["pid"], about["error"]["type"]) == (pid, "silent")


async def test_a_parent_is_not_ready_until_a_killed_child_is_back(plane: Plane, workers: Workers) -> None:
    _, health = await _of_two(workers)
    before = await _pids(plane)
    os.kill(before[0], signal.SIGKILL)
    await health.becomes(UNREADY)
    [about] = await _unready(health)
    await health.becomes(READY)

    # Whoever looks late sees the next one, which starts.
    assert about["error"]["type"] == ("not_running" if about["pid"] is None else "starting")
    assert about["pid"] not in before
    assert len(set(await _pids(plane)) - set(before)) == 1


async def test_a_parent_says_which_child_has_a_blocked_loop(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    _, health = await _of_two(workers)
    await plane.append("blocks", path=str(tmp_path / "runs"), seconds=3)
    await eventually(lambda: starts(tmp_path / "runs"), because="the tool blocks")
    await health.becomes(UNREADY)
    [about] = await _unready(health)
    await health.becomes(READY)

    assert about["pid"] == int((tmp_path / "runs").read_text().split()[0])
    assert about["error"]["type"] == "loop_stalled"


async def test_a_child_that_was_asked_to_go_is_not_waited_for(plane: Plane, workers: Workers) -> None:
    parent, health = await _of_two(workers)
    gone, stays = await _pids(plane)
    os.kill(gone, signal.SIGTERM)
    await eventually(lambda: _is(plane, [stays]), because="it has left")
    await health.becomes(READY)
    parent.signal(signal.SIGTERM)

    assert await parent.exited() == 0


async def test_a_draining_parent_is_live_and_not_ready(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    release = tmp_path / "release"
    parent, health = await _of_two(workers)
    await plane.append("until", path=str(tmp_path / "runs"), release=str(release))
    await eventually(lambda: starts(tmp_path / "runs"), because="the tool runs")
    parent.signal(signal.SIGTERM)
    await health.becomes("draining")
    live = await health.live()
    release.touch()

    assert live
    assert await parent.exited() == 0


async def _is(plane: Plane, pids: list[int]) -> bool:
    return await _pids(plane) == pids
