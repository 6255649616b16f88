"""A suspect's last attempt: it begins once nothing young runs beside it, and nothing is taken in until it has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.redis.stage import Stage
from tests.support.eventually import eventually
from tests.support.runs import starts
from tests.support.toolbox import echo, marked, until
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.worker.worker import Worker

LONG_MS: Final = 600_000
SHORT_MS: Final = 1_000
IDLE_MS: Final = 10 * LONG_MS


@pytest.fixture
async def stage(plane: Plane, connection: Connection) -> Stage:
    made = Stage(plane, connection)
    await made.call("XGROUP", "CREATE", made.keys.calls, made.keys.group, "0", "MKSTREAM")
    return made


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a lease so long that no test waits for one."""
    return settings.model_copy(update={"lease_ms": LONG_MS, "reap_after_ms": 6 * LONG_MS})


def _lasting(settings: Settings, lease_ms: int) -> Settings:
    return settings.model_copy(update={"lease_ms": lease_ms, "reap_after_ms": 6 * lease_ms})


async def _suspect(stage: Stage, tool: str, *, attempts: int = 3, **args: Any) -> str:
    """The orphan of a worker that was lost with it, as others were before."""
    fields = stage.plane.codec.encode_call(stage.plane.call(tool, "suspect", **args))
    entry_id = await stage.held("gone", attempt=attempts, idle_ms=IDLE_MS, fields=tuple(fields))
    lost = [
        {"consumer": "old", "attempt": number, "start": number, "end": number + 1, "error": "worker_lost"}
        for number in range(1, attempts)
    ]
    await stage.note(entry_id, *lost)
    return entry_id


def _looks(worker: Worker) -> None:
    """Have a worker look for orphans now, as if it had been connected for long."""
    roles = worker._engine._roles
    roles.link._since = time.monotonic() - LONG_MS
    roles.inflight.sweep_sooner.set()


async def _holds(plane: Plane, worker: Worker, entry_id: str, *, attempt: int) -> None:
    async def held() -> bool:
        return (await plane.pending()).get(entry_id) == (worker._engine.consumer, attempt)

    await eventually(held, because="the worker holds it")


async def _neighbour(plane: Plane, folder: Path) -> None:
    """Have a call run until a file is there."""
    await plane.append("until", "neighbour", path=str(folder / "neighbour"), release=str(folder / "release"))
    await eventually(lambda: starts(folder / "neighbour"), because="the neighbour runs")


async def test_it_waits_until_its_neighbours_have_ended_and_nobody_is_let_in_before_it_has(
    stage: Stage, plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    own, let_end = tmp_path / "own", tmp_path / "let-end"
    suspect = await _suspect(stage, "until", path=str(own), release=str(let_end))
    async with running_worker(until, echo, settings=settings) as worker:
        await _neighbour(plane, tmp_path)
        _looks(worker)
        await _holds(plane, worker, suspect, attempt=3)
        later = await plane.append("echo", "later")
        room = worker._engine._roles.inflight.room
        worker._engine._heartbeater.beat()
        held, begun = await plane.pending(), starts(own)
        (tmp_path / "release").touch()
        await eventually(lambda: starts(own), because="it begins once it is alone")
        started = await plane.pending()
        let_end.touch()
        await eventually(lambda: plane.reply("later"), because="others are let in again")
        reply = await plane.reply("suspect")

    assert (room, begun) == (0, 0)
    assert held[suspect] == (worker._engine.consumer, 3)
    assert started == {suspect: (worker._engine.consumer, 4)}
    assert later not in held
    assert reply is not None
    assert (reply.status, reply.attempt) == ("ok", 4)


async def test_what_has_run_for_a_lease_is_not_waited_for(
    stage: Stage, plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    suspect = await _suspect(stage, "marked", path=str(tmp_path / "own"))
    async with running_worker(until, marked, settings=_lasting(settings, SHORT_MS)) as worker:
        await _neighbour(plane, tmp_path)
        _looks(worker)
        reply = await eventually(lambda: plane.reply("suspect"), because="it runs beside its neighbour")
        neighbours = await plane.pending(worker._engine.consumer)
        (tmp_path / "release").touch()

    assert (reply.status, reply.attempt) == ("ok", 4)
    waited = (tmp_path / "own").stat().st_mtime - (tmp_path / "neighbour").stat().st_mtime
    # Not quite a lease: a tool marks its start when it is a moment old.
    assert waited > 0.75 * SHORT_MS / 1000
    assert suspect not in neighbours
    assert len(neighbours) == 1


async def test_nobody_waits_for_it_for_longer_than_a_lease(
    stage: Stage, plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    let_end = tmp_path / "let-end"
    await _suspect(stage, "until", path=str(tmp_path / "own"), release=str(let_end))
    async with running_worker(until, echo, settings=_lasting(settings, SHORT_MS)):
        await eventually(lambda: starts(tmp_path / "own"), because="it begins")
        await plane.append("echo", "later")
        await eventually(lambda: plane.reply("later"), because="others are let in, though it has not ended")
        assert await plane.reply("suspect") is None
        let_end.touch()


async def test_a_worker_that_is_to_stop_begins_it_at_once(
    stage: Stage, plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    suspect = await _suspect(stage, "marked", path=str(tmp_path / "own"))
    async with running_worker(until, marked, settings=settings) as worker:
        await _neighbour(plane, tmp_path)
        _looks(worker)
        await _holds(plane, worker, suspect, attempt=3)
        worker._engine.stop()
        reply = await eventually(lambda: plane.reply("suspect"), because="it is run")
        (tmp_path / "release").touch()

    assert (reply.status, reply.attempt) == ("ok", 4)
    assert suspect not in await plane.pending()


async def test_one_that_is_lost_while_it_waits_is_not_begun(
    stage: Stage, plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    suspect = await _suspect(stage, "marked", path=str(tmp_path / "own"))
    async with running_worker(until, echo, marked, settings=settings) as worker:
        await _neighbour(plane, tmp_path)
        _looks(worker)
        await _holds(plane, worker, suspect, attempt=3)
        await stage.hold(suspect, "another", attempt=3)
        worker._engine._heartbeater.hurry()
        await plane.append("echo", "later")
        await eventually(lambda: plane.reply("later"), because="the worker goes on")
        (tmp_path / "release").touch()

    assert await plane.pending() == {suspect: ("another", 3)}
    assert starts(tmp_path / "own") == 0


async def test_the_attempt_before_the_last_runs_beside_others(
    stage: Stage, plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    await _suspect(stage, "marked", attempts=2, path=str(tmp_path / "own"))
    async with running_worker(until, marked, settings=settings) as worker:
        await _neighbour(plane, tmp_path)
        _looks(worker)
        reply = await eventually(lambda: plane.reply("suspect"), because="it runs at once")
        (tmp_path / "release").touch()

    assert (reply.status, reply.attempt) == ("ok", 3)
