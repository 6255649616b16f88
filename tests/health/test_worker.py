"""One worker process, asked from outside whether it lives and is ready."""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.health import READY, Health
from tests.support.runs import starts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers


async def test_a_worker_is_live_at_once_and_ready_when_it_takes_calls_in(plane: Plane, workers: Workers) -> None:
    health = await Health.of(workers.spawn("--health-port", "0"))
    live, first = await health.live(), await health.error()
    await health.becomes(READY)

    assert live
    assert first["type"] == "starting"
    assert len(await plane.beating()) == 1


async def test_a_worker_listens_only_if_it_is_told_to(workers: Workers) -> None:
    worker = await workers.start()

    assert "health.started" not in worker.log.read_text()


async def test_a_worker_whose_loop_is_blocked_is_live_and_not_ready_until_it_goes_on(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    health = await Health.of(await workers.start("--health-port", "0"))
    await health.becomes(READY)
    await plane.append("blocks", path=str(tmp_path / "runs"), seconds=3)
    await eventually(lambda: starts(tmp_path / "runs"), because="the tool blocks")
    before = await health.state()
    await health.becomes("loop_stalled")
    error, live = await health.error(), await health.live()
    await health.becomes(READY)

    assert before == READY
    assert live
    assert error["message"].startswith("the event loop stood still for ")
    assert error["detail"]["seconds"] > error["detail"]["lease_seconds"] == 1


async def test_a_draining_worker_is_live_and_not_ready(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    release = tmp_path / "release"
    worker = await workers.start("--health-port", "0")
    health = await Health.of(worker)
    await plane.append("until", path=str(tmp_path / "runs"), release=str(release))
    await eventually(lambda: starts(tmp_path / "runs"), because="the tool runs")
    await health.becomes(READY)
    worker.signal(signal.SIGTERM)
    await health.becomes("draining")
    live, error = await health.live(), await health.error()
    release.touch()

    assert live
    assert not error["retryable"]
    assert await worker.exited() == 0


async def test_a_worker_without_room_stays_ready(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    worker = await workers.start("--health-port", "0", "--concurrency", "1")
    health = await Health.of(worker)
    await plane.append("until", path=str(runs), release=str(release))
    await eventually(lambda: starts(runs), because="there is no room any more")
    await health.becomes(READY)
    await plane.append("until", "next", path=str(runs), release=str(release))
    seen = set()

    async def renewed() -> bool:
        seen.add(await health.state())
        # Every heartbeat of a worker that is full, until several leases are over.
        beaten.add(await plane.redis.zscore(plane.keys.workers, name))
        return len(beaten) > 12

    [name] = await plane.beating()
    beaten: set[float | None] = set()
    await eventually(renewed, because="leases go by")
    release.touch()
    await eventually(lambda: plane.reply("next"), because="there is room again")
    seen.add(await health.state())

    assert seen == {READY}


async def test_a_port_that_is_taken_is_one_sentence_and_nothing_is_joined(plane: Plane, workers: Workers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for processes in ("1", "2"):
            worker = workers.spawn("--health-port", str(port), "--processes", processes)

            assert await worker.exited() == 1
            assert worker.log.read_text() == (
                f"toolspan: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --health-port\n"
            )
    assert await plane.beating() == []


async def test_a_worker_that_cannot_begin_leaves_with_its_own_exit_code(workers: Workers) -> None:
    worker = workers.spawn("--health-port", "0", "--tools", "not.there")

    assert await worker.exited() == 2


async def test_garbage_on_its_health_port_does_not_harm_a_worker(plane: Plane, workers: Workers) -> None:
    worker = await workers.start("--health-port", "0")
    health = await Health.of(worker)
    await health.becomes(READY)
    for garbage in (b"\0" * 100_000, b"\x16\x03\x01\x02\xff\r\n\r\n", b"GET /readyz HTTP/9.9\r\n\r\n"):
        await health.exchange(garbage)
    await plane.append("echo", text="fine")
    await eventually(lambda: plane.reply("echo"), because="it works on")

    assert await health.state() == READY
    assert "error" not in worker.log.read_text()
