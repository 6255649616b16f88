"""What somebody's hand on the server does to calls under way: none hangs, and none leaves anything behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import Recorder

ALL = Registry.load(["tests.support.toolbox"])


async def _is_parked(plane: Plane) -> bool:
    return bool(await plane.redis.zcard(plane.keys.parked))


async def _is_forgotten(plane: Plane) -> bool:
    return not await plane.redis.exists(plane.keys.attempts)


async def test_calls_whose_due_times_are_deleted_are_run_again(
    plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("later", path=str(tmp_path / "runs"), good_from=2)
        await eventually(lambda: _is_parked(plane), because="it waits for its next attempt")
        await plane.redis.delete(plane.keys.parked)
        reply = await eventually(lambda: plane.reply("later"), because="it is found and run again")

    assert (reply.status, reply.result, reply.attempt) == ("ok", 2, 2)


@pytest.mark.parametrize("how", ["acknowledged by hand", "a group made anew at its end"])
async def test_a_call_that_the_group_has_passed_is_let_go_of(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path, how: str
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        entry_id = await plane.append("until", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="the tool runs")
        if how == "acknowledged by hand":
            await plane.redis.xack(plane.keys.calls, plane.keys.group, entry_id)
        else:
            async with plane.redis.pipeline(transaction=True) as pipeline:
                pipeline.xgroup_destroy(plane.keys.calls, plane.keys.group)
                pipeline.xgroup_create(plane.keys.calls, plane.keys.group, "$")
                await pipeline.execute()
        release.touch()
        await plane.append("echo", "next")
        await eventually(lambda: plane.reply("next"), because="its neighbour is answered")
        await eventually(lambda: recorder.total("toolspan.inflight") == 0, because="nothing is held any more")

    assert [reply.call_id for reply in await plane.replies()] == ["next"]


async def test_a_call_that_a_group_made_anew_hands_out_leaves_no_record(
    plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    often = settings.model_copy(update={"reap_after_ms": 2_000})
    async with running_worker(ALL, settings=often):
        await plane.append("later", path=str(tmp_path / "runs"), good_from=2)
        await eventually(lambda: _is_parked(plane), because="it waits for its next attempt")
        await plane.redis.xgroup_destroy(plane.keys.calls, plane.keys.group)
        await eventually(lambda: plane.reply("later"), because="it is handed out and run anew")
        await eventually(lambda: _is_forgotten(plane), because="what was on record of it is deleted")
        await eventually(lambda: _nothing_parked(plane), because="its due time is forgotten")


async def _nothing_parked(plane: Plane) -> bool:
    return not await _is_parked(plane)


@pytest.mark.parametrize("record", [b"not json", b'[{"attempt":1}]'])
async def test_a_record_that_somebody_spoilt_stops_no_worker(plane: Plane, settings: Settings, record: bytes) -> None:
    for number in range(3):
        await plane.append("echo", f"c{number}")
    spoilt = (await plane.orphan())[1]
    await plane.redis.hset(plane.keys.attempts, spoilt, record)
    async with running_worker(ALL, settings=settings):
        await eventually(lambda: _answered(plane, 3), because="all are answered")

    assert await _is_forgotten(plane)


async def test_foreign_consumers_and_registrations_stop_no_worker(plane: Plane, settings: Settings) -> None:
    seconds, _ = await plane.redis.time()
    garbage: Any = dict.fromkeys(
        ("host", "pid", "version", "protocol", "lease", "start", "concurrency", "tools"), b"\xff"
    )
    await plane.redis.zadd(plane.keys.workers, {"strange": seconds * 1000})
    await plane.redis.hset(plane.keys.worker("strange"), mapping=garbage)
    await plane.redis.expire(plane.keys.worker("strange"), 60)
    await plane.append("echo", "orphan")
    await plane.redis.xgroup_create(plane.keys.calls, plane.keys.group, "0")
    strange: Any = b"caf\xe9"
    await plane.redis.xreadgroup(plane.keys.group, strange, {plane.keys.calls: ">"})
    async with running_worker(ALL, settings=settings):
        await plane.append("unheard.of", "unknown")
        await eventually(lambda: _answered(plane, 2), because="the orphan and the call for which others were asked end")


async def _answered(plane: Plane, count: int) -> bool:
    return len(await plane.replies()) == count
