"""Commands and answers that are lost on the way: nothing is done twice, and nothing is forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import pytest

from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.runs import starts, starts_in
from toolspan.store.scripts import compose
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan.testing import EmbeddedServer
    from toolspan.worker.worker import Worker

ALL = Registry.load(["tests.support.toolbox"])

Lost = Literal["command", "answer"]
either = pytest.mark.parametrize("lost", ["command", "answer"])


class Line:
    """A worker's way to Redis, on which something is lost."""

    def __init__(self, plane: Plane, proxy: Proxy) -> None:
        self.recorder = Recorder(plane.keys)
        self.proxy = proxy
        # The lease is short, since each worker is alone.
        self._settings = plane.settings.model_copy(update={"redis_url": proxy.url, "lease_ms": 400})
        self._plane = plane

    async def lose(self, lost: Lost, step: str) -> None:
        """Lose the next *step*, before the server sees it, or the answer to it: the name of a script, or BLOCK.

        That is the read of new entries: no other command blocks.
        """
        word = step if step.isupper() else await self._plane.redis.script_load(compose(step))
        (self.proxy.cut_before if lost == "command" else self.proxy.cut_after)(word.encode())

    def worker(self) -> AbstractAsyncContextManager[Worker]:
        return running_worker(ALL, settings=self._settings, probe=self.recorder.probe)

    async def settled(self) -> None:
        """Wait until nothing is left, and make sure that something was lost and no result refused."""
        await eventually(self._nothing_left, because="the calls are settled")

        assert self.proxy.cuts == 1
        assert self.recorder.total("toolspan.stale_results") == 0

    async def _nothing_left(self) -> bool:
        keys = self._plane.keys
        return await self._plane.left() == 0 and not await self._plane.redis.exists(keys.attempts, keys.parked)


@pytest.fixture
async def line(server: EmbeddedServer, plane: Plane) -> AsyncIterator[Line]:
    async with Proxy(server.port) as proxy:
        yield Line(plane, proxy)


@either
@pytest.mark.parametrize("step", ["BLOCK", "settle"])
async def test_a_call_is_run_once_and_answered_once(
    plane: Plane, line: Line, tmp_path: Path, lost: Lost, step: str
) -> None:
    runs = tmp_path / "runs"
    await plane.append("marked", path=str(runs))
    await line.lose(lost, step)
    async with line.worker():
        reply = await eventually(lambda: plane.reply("marked"), because="it is answered")
        await line.settled()

    assert reply.attempt == 1
    assert starts(runs) == 1


async def test_a_heartbeat_whose_answer_is_lost_costs_no_lease(plane: Plane, line: Line, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    await plane.append("marked", path=str(runs), seconds=1)
    async with line.worker():
        await eventually(lambda: starts(runs), because="the tool runs")
        await line.lose("answer", "keep")
        reply = await eventually(lambda: plane.reply("marked"), because="it is answered")
        await line.settled()

    assert reply.attempt == 1
    assert starts(runs) == 1


@either
async def test_a_call_that_runs_at_most_once_is_run(plane: Plane, line: Line, tmp_path: Path, lost: Lost) -> None:
    runs = tmp_path / "runs"
    await plane.append("once", path=str(runs))
    await line.lose(lost, "start")
    async with line.worker():
        reply = await eventually(lambda: plane.reply("once"), because="it is answered")
        await line.settled()

    assert reply.result == 1
    assert starts(runs) == 1


@pytest.mark.parametrize("step", ["claim", "start"])
async def test_an_orphan_is_run_once_and_its_attempt_counts_once(
    plane: Plane, line: Line, tmp_path: Path, step: str
) -> None:
    runs = tmp_path / "runs"
    entry = await plane.append("marked", path=str(runs))
    await plane.orphan()
    suspect = step == "start"
    if suspect:
        # It is begun by a step of its own: any other orphan is begun by the claim.
        before = [
            {"consumer": f"gone-0-000{n}", "attempt": 0, "start": n, "end": n, "error": "worker_lost"} for n in (1, 2)
        ]
        await plane.redis.execute_command("HSET", plane.keys.attempts, entry, json.dumps(before))
    await line.lose("answer", step)
    async with line.worker():
        reply = await eventually(lambda: plane.reply("marked"), because="it is answered")
        await line.settled()

    assert reply.attempt == 2
    assert starts(runs) == 1


@either
async def test_a_retry_is_parked_once_and_its_attempt_counts_once(
    plane: Plane, line: Line, tmp_path: Path, lost: Lost
) -> None:
    runs = tmp_path / "runs"
    await plane.append("flaky", path=str(runs), good_from=2)
    await line.lose(lost, "park")
    async with line.worker():
        reply = await eventually(lambda: plane.reply("flaky"), because="it is answered")
        await line.settled()

    assert reply.attempt == 2
    assert starts(runs) == 2


@pytest.mark.parametrize("step", ["claim_due", "start"])
async def test_a_call_that_is_due_is_run_once_and_its_attempt_counts_once(
    plane: Plane, line: Line, tmp_path: Path, step: str
) -> None:
    runs = tmp_path / "runs"
    entry = await plane.append("marked", path=str(runs))
    await plane.orphan("~parked")
    await plane.redis.zadd(plane.keys.parked, {entry: 0})
    failed = {"consumer": "another-1-0000", "attempt": 1, "start": 1, "end": 2, "error": "tool_error"}
    await plane.redis.execute_command("HSET", plane.keys.attempts, entry, json.dumps([failed]))
    await line.lose("answer", step)
    async with line.worker():
        reply = await eventually(lambda: plane.reply("marked"), because="it is answered")
        await line.settled()

    assert reply.attempt == 2
    assert starts(runs) == 1


@either
async def test_a_malformed_entry_is_buried_once_and_answered_once(plane: Plane, line: Line, lost: Lost) -> None:
    await plane.add("v", "1", "id", "bad", "tool", "echo", "args", "[]", "reply_to", plane.reply_to)
    await line.lose(lost, "quarantine")
    async with line.worker():
        reply = await eventually(lambda: plane.reply("bad"), because="it is answered")
        await line.settled()

    assert reply.failure.type == "malformed"
    assert len(await plane.dead_letters()) == 1
    assert line.recorder.total("toolspan.dead_letters", toolspan_reason="malformed") == 1


async def test_a_worker_whose_connections_are_cut_again_and_again_runs_each_call_once(
    plane: Plane, line: Line, tmp_path: Path
) -> None:
    calls = {f"c{number}" for number in range(300)}
    async with line.worker():
        for number, call in enumerate(sorted(calls)):
            await plane.append("marked", call, path=str(tmp_path / call))
            if number % 30 == 0:
                line.proxy.cut_all()
        await eventually(lambda: _settled(plane), because="all are settled")

    assert sorted(reply.call_id for reply in await plane.replies()) == sorted(calls)
    assert starts_in(tmp_path) == dict.fromkeys(calls, 1)
    assert line.recorder.total("toolspan.stale_results") == 0


async def _settled(plane: Plane) -> bool:
    return await plane.left() == 0
