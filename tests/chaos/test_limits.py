"""Limits for the whole fleet with real workers: one is killed, and quick calls pass ten thousand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.runs import starts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers

LINE = 10_000
QUICK = 50


async def test_the_slots_of_a_killed_worker_come_back_with_the_end_of_its_lease(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    victim = await workers.start()
    await plane.append("scarce.until", "killed", path=str(runs), release=str(release))
    await eventually(lambda: starts(runs) == 1, because="it has the only slot")
    victim.kill()
    release.touch()
    assert await plane.redis.zcard(plane.keys.slots("scarce.until")) == 1
    await workers.start(name="next")
    await plane.append("scarce.until", "next", path=str(runs), release=str(release))

    await eventually(lambda: plane.reply("next"), because="the slot is there again")
    killed = await eventually(lambda: plane.reply("killed"), because="the orphan is run again")
    assert (killed.status, killed.attempt) == ("ok", 2)
    await eventually(lambda: _no_slots(plane, "scarce.until"), because="all slots are given back")


async def test_quick_calls_pass_ten_thousand_that_wait(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    """Of a tool that never ends meanwhile; what is asserted is order and progress, not speed."""
    runs, release = tmp_path / "runs", tmp_path / "release"
    fields = plane.codec.encode_call(
        plane.call("scarce.until", "waits", reply=False, path=str(runs), release=str(release))
    )
    pipeline = plane.redis.pipeline(transaction=False)
    for _ in range(LINE):
        pipeline.execute_command("XADD", plane.keys.calls, "*", *fields)
    await pipeline.execute()
    await workers.start()
    waits = []
    for number in range(QUICK):
        began = time.monotonic()
        await plane.append("echo", f"q{number}")
        await eventually(
            lambda number=number: plane.reply(f"q{number}"),  # type: ignore[misc]
            because="it is answered",
            within=60,
        )
        waits.append(time.monotonic() - began)

    assert starts(runs) == 1
    assert await plane.left() == LINE
    # The first ones stand behind all that was there before them.
    assert sorted(waits)[QUICK // 2] < 1
    # Nobody's last line: those that wait are many, and what is on record of them is not.
    assert await plane.redis.hlen(plane.keys.attempts) <= 200
    assert await plane.redis.exists(plane.keys.events) == 0


async def _no_slots(plane: Plane, tool: str) -> bool:
    return not await plane.redis.exists(plane.keys.slots(tool))
