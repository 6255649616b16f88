"""Two versions of a worker side by side: each runs what it knows, and leaves the rest to the other."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.runs import starts_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers

TOOLBOX = "tests.support.toolbox"


async def test_each_version_runs_what_it_knows_and_nothing_goes_to_and_fro(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    await workers.start("--tools", f"{TOOLBOX}:echo", name="old")
    await workers.start("--tools", f"{TOOLBOX}:marked", name="new")
    for number in range(40):
        await plane.append("echo", f"e{number}")
        await plane.append("marked", f"m{number}", path=str(tmp_path / f"m{number}"))
    await eventually(lambda: _answered(plane, 80), because="all are answered", within=30)

    replies = await plane.replies()
    assert {reply.status for reply in replies} == {"ok"}
    assert {reply.attempt for reply in replies} == {1}
    assert {reply.consumer.partition("-")[0] for reply in replies if reply.call_id.startswith("e")} == {"old"}
    assert {reply.consumer.partition("-")[0] for reply in replies if reply.call_id.startswith("m")} == {"new"}
    # What was given back once is taken by the one that knows it.
    events = await plane.redis.execute_command("XRANGE", plane.keys.events, "-", "+")
    given_back = [fields[fields.index(b"entry") + 1] for _, fields in events if b"released" in fields]
    assert len(given_back) == len(set(given_back))


async def test_a_call_of_a_higher_version_waits_for_a_worker_that_reads_it(plane: Plane, workers: Workers) -> None:
    """No such worker exists yet: its registration is written by hand."""
    await workers.start("--tools", f"{TOOLBOX}:echo")
    await plane.redis.hset(
        plane.keys.worker("newer-1-0000"),
        mapping={
            "host": "h", "pid": 1, "version": "9", "protocol": 2, "lease": 1_000, "start": 1, "concurrency": 1,
            "tools": json.dumps({"echo": "d"}),
        },
    )  # fmt: skip
    await plane.redis.pexpire(plane.keys.worker("newer-1-0000"), 60_000)
    far = 4_000_000_000_000
    await plane.redis.zadd(plane.keys.workers, {"newer-1-0000": far})
    entry_id = await plane.add("v", "2", "id", "newer", "tool", "echo", "body", "?", "reply_to", plane.reply_to)

    await eventually(lambda: _parked(plane, entry_id), because="it is left to the one that reads it")
    assert await plane.reply("newer") is None
    await plane.redis.zrem(plane.keys.workers, "newer-1-0000")
    reply = await eventually(lambda: plane.reply("newer"), because="nobody reads it any more")
    assert reply.failure
    assert reply.failure.type == "unknown_tool"


async def test_old_workers_go_in_turn_under_load_and_nobody_notices(
    plane: Plane, workers: Workers, tmp_path: Path
) -> None:
    old = [await workers.start(name=f"old{number}") for number in range(2)]
    folder = tmp_path / "runs"
    folder.mkdir()
    sent: list[str] = []
    over = asyncio.Event()

    async def load() -> None:
        while not over.is_set():
            call_id = f"c{len(sent)}"
            await plane.append("marked", call_id, path=str(folder / call_id), seconds=0.05)
            sent.append(call_id)
            await asyncio.sleep(0.01)

    loading = asyncio.create_task(load())
    for number, worker in enumerate(old):
        await workers.start(name=f"new{number}")
        before = len(sent)
        await eventually(lambda before=before: len(sent) > before + 50, because="both have work")  # type: ignore[misc]
        worker.signal(signal.SIGTERM)
        assert await worker.exited() == 0
    over.set()
    await loading
    await eventually(lambda: _answered(plane, len(sent)), because="all are answered", within=30)

    replies = await plane.replies()
    assert {reply.call_id for reply in replies} == set(sent)
    assert [reply for reply in replies if reply.status != "ok"] == []
    # A drain that has the time for it interrupts nothing.
    assert set(starts_in(folder).values()) == {1}
    assert await plane.dead_letters() == []
    assert await plane.left() == 0
    assert {name.partition("-")[0] for name in await plane.beating()} == {"new0", "new1"}


async def _answered(plane: Plane, count: int) -> bool:
    return len(await plane.replies()) == count


async def _parked(plane: Plane, entry_id: str) -> bool:
    return (await plane.pending()).get(entry_id, ("", 0))[0] == "~parked"
