"""One idempotency key, two callers, and a worker that is killed between: one outcome for both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from toolspan import ToolClient, ToolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


@pytest.fixture
async def second(settings: Settings, recorder: Recorder) -> AsyncIterator[ToolClient]:
    """Another caller, in another process as far as Redis can tell."""
    async with ToolClient(settings, probe=recorder.probe) as made:
        yield made


@pytest.mark.parametrize("when", ["while it runs", "after it has ended"])
async def test_two_callers_get_the_one_outcome_although_the_worker_is_killed(
    workers: Workers, plane: Plane, client: ToolClient, second: ToolClient, tmp_path: Path, *, when: str
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    arguments = {"path": str(runs), "release": str(release)}
    doomed = await workers.start(name="doomed")
    first = asyncio.create_task(client.call("until", arguments, idempotency_key="k"))
    await eventually(lambda: starts(runs) == 1, because="the tool runs")
    if when == "while it runs":
        joined = asyncio.create_task(second.call("until", arguments, idempotency_key="k"))
        await eventually(lambda: plane.redis.pubsub_channels(f"{plane.keys.prefix}:once:*"), because="he joins")
        doomed.kill()
        release.touch()
    else:
        release.touch()
        await first
        doomed.kill()
        joined = asyncio.create_task(second.call("until", arguments, idempotency_key="k"))
    await workers.start(name="survivor")
    replies = [await first, await joined]

    runs_until_success = 2 if when == "while it runs" else 1
    assert replies[0] == replies[1]
    assert replies[0].result == starts(runs) == runs_until_success


async def test_two_callers_are_told_the_same_of_a_call_that_may_not_run_again(
    workers: Workers, client: ToolClient, second: ToolClient, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    arguments = {"path": str(runs), "seconds": 60}
    doomed = await workers.start(name="doomed")
    asking = [
        asyncio.create_task(one.call("once", arguments, idempotency_key="k", timeout=60)) for one in (client, second)
    ]
    await eventually(lambda: starts(runs) == 1, because="the tool runs")
    doomed.kill()
    await workers.start(name="survivor")
    ends = await asyncio.gather(*asking, return_exceptions=True)
    with pytest.raises(ToolError) as later:
        await second.call("once", arguments, idempotency_key="k")

    assert [getattr(end, "type", end) for end in (*ends, later.value)] == ["outcome_unknown"] * 3
    assert starts(runs) == 1


async def test_who_joined_a_killer_is_told_that_it_was_quarantined_and_the_key_is_free_again(
    workers: Workers, client: ToolClient, second: ToolClient, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    arguments = {"path": str(runs), "first": 4}
    await workers.start("--processes", "2")
    ends = await asyncio.gather(
        *(one.call("dies", arguments, idempotency_key="k", timeout=60) for one in (client, second)),
        return_exceptions=True,
    )
    again = await second.call("dies", arguments, idempotency_key="k", timeout=60)

    assert [getattr(end, "type", end) for end in ends] == ["quarantined"] * 2
    assert again.result == "lived"
