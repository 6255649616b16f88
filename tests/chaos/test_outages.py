"""Redis that is gone, frozen, emptied, full, or throws its clients out: workers get over it by themselves."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.runs import starts, starts_in
from toolspan.model import ToolCall
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer

ALL = Registry.load(["tests.support.toolbox"])


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return settings_for(own_server.url)


def _outages(recorder: Recorder) -> Counter[str]:
    """Count the lines that say that Redis failed a step, by step."""
    return Counter(about["toolspan.role"] for name, about in recorder.events if name == "toolspan.redis.down")


async def _longer_than_a_lease(settings: Settings) -> None:
    since = time.monotonic()
    lease = settings.lease_ms / 1000
    await eventually(lambda: time.monotonic() - since > 1.5 * lease, because="more than a lease goes by")


async def _settled(plane: Plane) -> bool:
    return await plane.left() == 0 and await plane.pending() == {}


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_no_call_is_run_again_after_an_outage_longer_than_a_lease(
    plane: Plane, settings: Settings, own_server: EmbeddedServer, tmp_path: Path, how: str
) -> None:
    meanwhile, later = tmp_path / "meanwhile", tmp_path / "later"
    one, other = Recorder(settings.keys), Recorder(settings.keys)
    few = settings.model_copy(update={"concurrency": 10})
    async with (
        running_worker(ALL, settings=few, probe=one.probe),
        running_worker(ALL, settings=few, probe=other.probe),
    ):
        for number in range(5):
            for release in (meanwhile, later):
                name = f"{release.name}{number}"
                await plane.append("until", name, path=str(tmp_path / name), release=str(release))
        await eventually(lambda: len(starts_in(tmp_path)) == 10, because="all calls run")
        if how == "killed":
            own_server.kill()
        else:
            own_server.signal(signal.SIGSTOP)
        # These have their outcome while nobody can take it.
        meanwhile.touch()
        await _longer_than_a_lease(settings)
        if how == "killed":
            own_server.start()
        else:
            own_server.signal(signal.SIGCONT)
        await eventually(lambda: _replies(plane, 5), because="what ended meanwhile is answered")
        await _longer_than_a_lease(settings)
        later.touch()
        await eventually(lambda: _settled(plane), because="all are answered")

    assert sorted(reply.call_id for reply in await plane.replies()) == sorted(
        f"{name}{number}" for number in range(5) for name in ("meanwhile", "later")
    )
    assert set(starts_in(tmp_path).values()) == {1}
    assert not await plane.redis.exists(plane.keys.attempts)
    assert one.total("toolspan.stale_results") + other.total("toolspan.stale_results") == 0


async def test_an_outage_is_one_line_for_each_step(
    plane: Plane, settings: Settings, own_server: EmbeddedServer, recorder: Recorder, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    with capture_logs() as log:
        async with running_worker(ALL, settings=settings, probe=recorder.probe):
            await plane.append("until", path=str(tmp_path / "runs"), release=str(release))
            await eventually(lambda: starts(tmp_path / "runs"), because="the tool runs")
            own_server.kill()
            release.touch()
            await eventually(lambda: recorder.total("toolspan.redis.errors") > 12, because="it tries again and again")
            lines = _outages(recorder)
            own_server.start()
            await eventually(lambda: _settled(plane), because="it goes on")
            await eventually(lambda: _recovered(recorder) == set(lines), because="each step says that it works again")
    failures = {line["step"]: line["failures"] for line in log if line["event"] == "redis.up"}

    assert {"read", "keep", "settle"} <= set(lines)
    assert set(lines.values()) == {1}
    assert sum(failures.values()) == recorder.total("toolspan.redis.errors")


@pytest.mark.parametrize("concurrency", [1, 100])
async def test_calls_in_flight_are_answered_once_when_their_group_is_gone(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path, concurrency: int
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    settings = settings.model_copy(update={"concurrency": concurrency})
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await plane.append("until", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="the tool runs")
        await plane.redis.xgroup_destroy(plane.keys.calls, plane.keys.group)
        await plane.append("echo", "next")
        await _longer_than_a_lease(settings)
        release.touch()
        await eventually(lambda: plane.reply("next"), because="the worker makes the group anew")
        await eventually(lambda: _settled(plane), because="both are settled")

    assert sorted(reply.call_id for reply in await plane.replies()) == ["next", "until"]
    assert starts(runs) == 1
    assert recorder.total("toolspan.stale_results") == 0


async def test_calls_go_on_while_nobody_has_read_them_from_their_new_group(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    once, until, release = tmp_path / "once", tmp_path / "until", tmp_path / "release"
    settings = settings.model_copy(update={"concurrency": 2})
    async with running_worker(ALL, settings=settings, probe=recorder.probe) as worker:
        await plane.append("once", path=str(once), seconds=1.5)
        await plane.append("until", path=str(until), release=str(release))
        await eventually(lambda: starts(once) and starts(until), because="there is no room to read")
        await plane.redis.xgroup_destroy(plane.keys.calls, plane.keys.group)
        await plane.redis.xgroup_create(plane.keys.calls, plane.keys.group, "0")
        await _beaten(plane, worker.consumer, times=2)
        release.touch()
        await eventually(lambda: _settled(plane), because="both are settled")

    assert {reply.call_id: reply.result for reply in await plane.replies()} == {"once": 1, "until": 1}
    assert starts(once) == starts(until) == 1
    assert await plane.dead_letters() == []


@pytest.mark.parametrize("how", ["flushed", "deleted"])
async def test_a_worker_goes_on_when_its_stream_is_gone(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path, how: str
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    settings = settings.model_copy(update=_TIDIED_SOON)
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await plane.append("until", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="the tool runs")
        await (plane.redis.flushall() if how == "flushed" else plane.redis.delete(plane.keys.calls))
        release.touch()
        await plane.append("echo", "next")
        await eventually(lambda: plane.reply("next"), because="calls appended afterwards are answered")
        await eventually(lambda: _settled(plane), because="nothing is left")
        await eventually(lambda: _registered(plane), because="the worker is registered again")
        await eventually(lambda: _unrecorded(plane), because="nothing is on record of a call that is gone")

    # Nobody can tell whether somebody else has answered it: it is not answered, or once.
    assert [reply.call_id for reply in await plane.replies()].count("until") <= 1
    assert starts(runs) == 1


async def test_a_worker_whose_connections_are_killed_runs_and_answers_each_call_once(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        for number in range(200):
            await plane.append("marked", f"c{number}", path=str(tmp_path / f"c{number}"))
            if number % 40 == 0:
                await plane.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await eventually(lambda: _settled(plane), because="all are settled")

    assert len({reply.call_id for reply in await plane.replies()}) == len(await plane.replies()) == 200
    assert starts_in(tmp_path) == {f"c{number}": 1 for number in range(200)}


async def test_a_worker_that_is_not_let_in_any_more_answers_once_there_is_room(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await plane.append("until", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="the tool runs")
        await plane.redis.config_set("maxclients", 1)
        await plane.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        release.touch()
        await eventually(lambda: _outages(recorder)["settle"], because="the reply cannot be written")
        await plane.redis.config_set("maxclients", 1000)
        reply = await eventually(lambda: plane.reply("until"), because="it is answered")
        await eventually(lambda: _settled(plane), because="it is settled")

    assert reply.result == 1
    assert starts(runs) == 1


async def test_a_full_server_lets_workers_finish_what_they_hold(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    async with running_worker(ALL, settings=settings, probe=recorder.probe) as worker:
        for number in range(5):
            await plane.append("until", f"c{number}", path=str(tmp_path / f"c{number}"), release=str(release))
        await plane.append("again", path=str(tmp_path / "again"), good_from=3)
        await plane.append("once", path=str(tmp_path / "once"), seconds=1)
        await plane.add("v", "1", "id", "bad")
        await eventually(lambda: len(starts_in(tmp_path)) == 7, because="all run")
        await plane.redis.config_set("maxmemory", 1)
        await _beaten(plane, worker.consumer, times=2)
        release.touch()
        await eventually(lambda: _replies(plane, 7), because="what is held is answered", within=5)
        full = await plane.redis.info("memory")
        await plane.redis.config_set("maxmemory", 0)
        await plane.append("echo")
        await eventually(lambda: plane.reply("echo"), because="there is memory again")

    assert full["maxmemory"] == 1
    assert len(await plane.replies()) == 8
    assert len(await plane.dead_letters()) == 1
    assert "keep" not in _outages(recorder)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_drain_without_redis_ends_at_its_deadline_and_says_so(
    plane: Plane, workers: Workers, own_server: EmbeddedServer, tmp_path: Path, how: str
) -> None:
    worker = await workers.start(TOOLSPAN_DRAIN_SECONDS=1)
    await plane.append("until", path=str(tmp_path / "runs"), release=str(tmp_path / "release"))
    await eventually(lambda: starts(tmp_path / "runs"), because="the tool runs")
    if how == "killed":
        own_server.kill()
    else:
        own_server.signal(signal.SIGSTOP)
    worker.signal(signal.SIGTERM)
    code = await worker.exited(within=10)
    if how == "killed":
        own_server.start()
    else:
        own_server.signal(signal.SIGCONT)
    (tmp_path / "release").touch()
    await workers.start(name="next")
    reply = await eventually(lambda: plane.reply("until"), because="the next worker takes the call over")

    assert code == 1
    assert reply.attempt == 2


async def test_a_worker_that_is_stopped_while_redis_does_not_answer_ends_well(workers: Workers) -> None:
    asked = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        worker = workers.spawn(TOOLSPAN_REDIS_URL=f"redis://127.0.0.1:{port}/0")
        await asyncio.wait_for(asked.wait(), 30)
        worker.signal(signal.SIGTERM)
        code = await worker.exited(within=5)

    assert code == 0


async def test_an_entry_of_ours_that_no_run_knows_of_is_run_after_a_lease(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    call = plane.codec.encode_call(ToolCall("forgotten", "echo", {}, reply_to=plane.reply_to))
    async with running_worker(ALL, settings=settings, probe=recorder.probe) as worker:
        await plane.redis.eval(_FORGOTTEN, 1, plane.keys.calls, plane.keys.group, worker.consumer, *call)
        reply = await eventually(lambda: plane.reply("forgotten"), because="it is taken over by its own worker")
        await eventually(lambda: _settled(plane), because="it is settled")

    assert reply.attempt == 2
    assert recorder.total("toolspan.reclaims", toolspan_reason="lease_expired") == 1


async def test_a_call_whose_body_is_deleted_while_it_runs_is_told_as_lost_once_it_cannot_be_tried_again(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        entry_id = await plane.append("asks_again", path=str(tmp_path / "runs"), release=str(release))
        await eventually(lambda: starts(tmp_path / "runs"), because="it runs")
        await plane.redis.xdel(plane.keys.calls, entry_id)
        release.touch()
        await eventually(lambda: recorder.total("toolspan.lost"), because="it is told as lost")

    assert await plane.pending() == {}
    assert recorder.total("toolspan.lost", toolspan_reason="deleted") == 1


async def test_entries_of_a_stream_that_has_no_group_are_run(plane: Plane, settings: Settings) -> None:
    for number in range(3):
        await plane.append("echo", f"c{number}")
    async with running_worker(ALL, settings=settings):
        await eventually(lambda: _replies(plane, 3), because="the group is made from the first entry on")


@pytest.mark.parametrize("name", ["calls", "attempts", "parked", "events", "workers", "worker", "dead_letters"])
async def test_something_else_under_a_key_of_ours_only_delays(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path, name: str
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    settings = settings.model_copy(update=_TIDIED_SOON)
    async with running_worker(ALL, settings=settings, probe=recorder.probe) as worker:
        key = plane.keys.worker(worker.consumer) if name == "worker" else str(getattr(plane.keys, name))
        await plane.append("until", path=str(runs), release=str(release))
        await plane.append("later", path=str(tmp_path / "later"), good_from=2)
        await eventually(lambda: starts(runs) and starts(tmp_path / "later"), because="both run")
        aside = await plane.redis.exists(key) and await plane.redis.rename(key, "aside")
        await plane.redis.set(key, "something else")
        if name != "calls":
            await plane.add("v", "1", "id", "bad")
        release.touch()
        await _longer_than_half_a_lease(settings)
        await (plane.redis.rename("aside", key) if aside else plane.redis.delete(key))
        await plane.append("echo", "next")
        await eventually(lambda: plane.reply("next"), because="it goes on")
        await eventually(lambda: _settled(plane), because="all are settled")
        await eventually(lambda: _unrecorded(plane), because="what a settlement could not delete is tidied up")

    assert sorted(reply.call_id for reply in await plane.replies()) == ["later", "next", "until"]
    assert starts(runs) == 1
    assert len(await plane.dead_letters()) == (name != "calls")


async def _longer_than_half_a_lease(settings: Settings) -> None:
    since = time.monotonic()
    await eventually(lambda: time.monotonic() - since > settings.lease_ms / 2000, because="half a lease goes by")


# The records of calls that are gone are looked for as often as dead consumers are.
_TIDIED_SOON = {"reap_after_ms": 4_000}

_FORGOTTEN = """
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3))
redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', 1, 'FORCE', 'JUSTID', 'LASTID', id)
"""


async def _replies(plane: Plane, count: int) -> bool:
    return len(await plane.replies()) >= count


async def _unrecorded(plane: Plane) -> bool:
    return not await plane.redis.exists(plane.keys.attempts)


async def _registered(plane: Plane) -> bool:
    return bool([key async for key in plane.redis.scan_iter(f"{plane.keys.worker_prefix}*")])


async def _beaten(plane: Plane, consumer: str, *, times: int) -> None:
    """Wait until a worker has beaten a few times more."""
    for _ in range(times):
        before = await plane.redis.zscore(plane.keys.workers, consumer)
        await eventually(lambda before=before: _beat_since(plane, consumer, before), because="heartbeats go on")  # type: ignore[misc]


async def _beat_since(plane: Plane, consumer: str, before: float | None) -> bool:
    return await plane.redis.zscore(plane.keys.workers, consumer) != before


def _recovered(recorder: Recorder) -> set[str]:
    return {about["toolspan.role"] for name, about in recorder.events if name == "toolspan.redis.up"}
