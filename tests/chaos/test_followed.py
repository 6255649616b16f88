"""Progress and cancellation where workers are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.eventually import eventually
from tests.support.runs import starts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from toolspan import ToolClient


async def test_progress_goes_on_with_the_next_attempt(workers: Workers, client: ToolClient, tmp_path: Path) -> None:
    path, release = tmp_path / "runs", tmp_path / "release"
    first = await workers.start()
    args = {"path": str(path), "steps": 2, "release": str(release)}
    async with client.stream("tells", args, timeout=60) as following:
        told = [await anext(following), await anext(following)]
        first.kill()
        await workers.start()
        told += [await anext(following), await anext(following)]
        release.touch()

        assert [(p.attempt, p.seq) for p in told] == [(1, 1), (1, 2), (2, 1), (2, 2)]
        assert len({p.consumer for p in told}) == 2
        assert (await following.reply()).attempt == 2


async def test_a_call_that_is_given_up_while_its_worker_is_dead_is_not_run_again(
    plane: Plane, workers: Workers, client: ToolClient, tmp_path: Path
) -> None:
    path = tmp_path / "runs"
    first = await workers.start()
    await plane.append("marked", "mine", path=str(path), seconds=60)
    await eventually(lambda: starts(path) == 1, because="it runs, and has said so")
    first.kill()
    await client.cancel("mine")
    await workers.start()
    reply: Any = await eventually(lambda: plane.reply("mine"), because="it is answered", within=30)

    assert reply.failure.type == "cancelled"
    assert reply.failure.detail == {"started": True}
    assert starts(path) == 1
