"""Worker processes that die, freeze and stop for real: every call still gets its one reply."""

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


async def test_a_call_whose_worker_is_killed_while_it_runs_is_run_again(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    doomed = await workers.start(name="doomed")
    await plane.append("until", path=str(runs), release=str(release))
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    doomed.kill()
    release.touch()

    await workers.start(name="survivor")
    reply = await eventually(lambda: plane.reply("until"), because="another worker takes the call over")

    assert reply.result == 2
    assert reply.attempt == 2
    assert reply.consumer.startswith("survivor-")


async def test_who_takes_over_the_calls_of_a_dead_worker_says_once_how_many(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    release = tmp_path / "release"
    doomed = await workers.start(name="doomed")
    for number in range(3):
        await plane.append("until", str(number), path=str(tmp_path / f"runs-{number}"), release=str(release))
    await eventually(lambda: all(_starts(tmp_path / f"runs-{n}") for n in range(3)), because="the tools run")
    doomed.kill()
    release.touch()
    # What was read at different times is orphaned at different times: one sweep is to find all.
    await eventually(lambda: _orphans(plane, 3), because="nobody has renewed them, nor himself, for a lease")
    survivor = await workers.start(name="survivor")
    for number in range(3):
        await eventually(lambda number=number: plane.reply(str(number)), because="they are answered")  # type: ignore[misc]

    lines = [json.loads(line) for line in survivor.log.read_text().splitlines() if '"orphans.claimed"' in line]
    assert [(line["count"], line["reason"]) for line in lines] == [(3, "worker_lost")]
    assert lines[0]["owner"].startswith("doomed-")
    assert lines[0]["consumer"].startswith("survivor-")


async def test_a_call_whose_worker_is_killed_before_it_read_it_runs_once(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    doomed = await workers.start(name="doomed")
    doomed.signal(signal.SIGSTOP)
    await plane.append("marked", path=str(tmp_path / "runs"))
    doomed.kill()

    await workers.start(name="survivor")
    reply = await eventually(lambda: plane.reply("marked"), because="another worker gets the call")

    assert reply.result == 1


async def test_a_call_whose_worker_is_killed_after_the_tool_ran_gets_one_reply(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    doomed = await workers.start(name="doomed")
    await plane.append("marked", "c1", path=str(runs))
    await eventually(lambda: plane.reply("c1"), because="the first reply is there")
    doomed.kill()

    await workers.start(name="survivor")
    await plane.append("echo", "c2")
    await eventually(lambda: plane.reply("c2"), because="the survivor works")

    assert _starts(runs) == 1
    assert len(await plane.replies()) == 2


async def test_a_frozen_worker_that_wakes_up_is_not_heard(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    frozen = await workers.start(name="frozen")
    await plane.append("until", path=str(runs), release=str(release))
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    frozen.signal(signal.SIGSTOP)
    await workers.start(name="awake")
    await eventually(lambda: _starts(runs) == 2, because="the call is taken over after a lease")
    frozen.signal(signal.SIGCONT)
    release.touch()

    reply = await eventually(lambda: plane.reply("until"), because="the call is answered")
    await eventually(
        lambda: "result.refused" in frozen.log.read_text() or "lease.lost" in frozen.log.read_text(),
        because="the frozen worker notices that the call is no longer its own",
    )

    assert reply.consumer.startswith("awake-")
    assert len(await plane.replies()) == 1
    # It was stopped as a whole: no tool has blocked its loop.
    assert "loop.stalled" not in frozen.log.read_text()


async def test_a_call_that_takes_longer_than_a_lease_is_not_run_twice(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    await workers.start(name="one")
    await workers.start(name="two")
    await plane.append("marked", "loop", path=str(runs), seconds=2.5)
    await plane.append("marked.sync", "thread", path=str(runs), seconds=2.5)

    await eventually(lambda: plane.reply("loop"), because="the long call on the loop ends")
    await eventually(lambda: plane.reply("thread"), because="the long call in a thread ends")

    assert _starts(runs) == 2


async def test_only_the_killer_among_its_neighbours_is_quarantined(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    await workers.start("--concurrency", "20", "--processes", "2", name="w")
    innocent = [await plane.append("marked", f"n{i}", path=str(tmp_path / f"n{i}"), seconds=0.5) for i in range(19)]
    killer = await plane.append("dies", "killer", path=str(tmp_path / "killer"))

    for number in range(19):
        reply = await eventually(
            lambda number=number: plane.reply(f"n{number}"),  # type: ignore[misc]
            because="every neighbour is answered",
            within=60,
        )
        assert reply.status == "ok"
    reply = await eventually(lambda: plane.reply("killer"), because="the killer is answered", within=60)
    letters = await plane.dead_letters()

    assert reply.failure.type == "quarantined"
    assert [letter.entry_id for letter in letters] == [killer]
    assert killer not in innocent
    assert letters[0].reason == "worker_lost"
    assert [attempt.error for attempt in letters[0].attempts] == ["worker_lost"] * 4
    assert _starts(tmp_path / "killer") == 4


async def test_a_tool_that_takes_its_worker_down_once_is_answered_by_the_next(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    await workers.start("--processes", "2")
    await plane.append("dies", path=str(tmp_path / "runs"), first=1)

    reply = await eventually(lambda: plane.reply("dies"), because="the second attempt answers", within=30)

    assert reply.result == "lived"
    assert reply.attempt == 2


async def test_a_call_that_runs_at_most_once_is_not_run_again(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    doomed = await workers.start(name="doomed")
    await plane.append("once", path=str(runs), seconds=60)
    await eventually(lambda: _starts(runs) == 1, because="the tool runs")
    doomed.kill()

    await workers.start(name="survivor")
    reply = await eventually(lambda: plane.reply("once"), because="the caller is told")
    letters = await plane.dead_letters()

    assert reply.failure.type == "outcome_unknown"
    assert [letter.reason for letter in letters] == ["outcome_unknown"]
    assert _starts(runs) == 1


async def test_a_tool_that_blocks_the_loop_for_longer_than_a_lease_loses_its_call(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    blocked = await workers.start(name="blocked")
    await plane.append("blocks", path=str(runs), seconds=6)
    await eventually(lambda: _starts(runs) == 1, because="the tool blocks the loop")
    await workers.start(name="other")

    reply = await eventually(lambda: plane.reply("blocks"), because="another worker answers")

    assert reply.consumer.startswith("other-")
    assert "loop.stalled" in blocked.log.read_text()
    await eventually(
        lambda: "result.refused" in blocked.log.read_text() or "lease.lost" in blocked.log.read_text(),
        because="the blocked worker's result is refused",
    )
    assert len(await plane.replies()) == 1


async def test_a_worker_that_is_killed_is_reaped_once_it_holds_nothing(plane: Plane, workers: Workers) -> None:
    settings = plane.settings.model_copy(update={"reap_after_ms": 2_000})
    doomed = await workers.start(name="doomed", settings=settings)
    # Redis 7.0 lists a consumer from its first entry on.
    await plane.append("echo", "first")
    await eventually(lambda: plane.reply("first"), because="the doomed worker has read")
    assert await _has(plane, "doomed")
    doomed.kill()

    await workers.start(name="survivor", settings=settings)
    await eventually(lambda: _has_not(plane, "doomed"), because="the dead consumer is deleted")

    [survivor] = await plane.beating()
    assert survivor.startswith("survivor-")


async def test_two_workers_of_one_label_are_two_consumers(plane: Plane, workers: Workers) -> None:
    await workers.start(name="same")
    await workers.start(name="same")

    names = await plane.beating()

    assert len(set(names)) == 2
    assert all(name.startswith("same-") for name in names)


async def _orphans(plane: Plane, count: int) -> bool:
    """Whether so many calls are pending, all of them orphans of workers that are lost."""
    lease_ms, now_ms = plane.settings.lease_ms, await plane.now_ms()
    silent = await plane.redis.zcount(plane.keys.workers, "-inf", now_ms - lease_ms) == len(await plane.beating())
    command = ("XPENDING", plane.keys.calls, plane.keys.group, "IDLE", lease_ms, "-", "+", count)
    return silent and len(await plane.redis.execute_command(*command)) == count


async def _has(plane: Plane, label: str) -> bool:
    return any(name.startswith(f"{label}-") for name in await plane.consumers())


async def _has_not(plane: Plane, label: str) -> bool:
    return not await _has(plane, label)
