"""What workers make of what operators ask: calls of a paused tool wait, and who is asked to go goes."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from tests.support.toolbox import echo, marked, once, until
from toolspan import ToolExecConsumer, tool
from toolspan.errors import StoreError
from toolspan.store import ControlStore
from toolspan.testing import Recorder, running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.worker.worker import Worker


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a lease so long that no heartbeat tells a worker anything while a test lasts."""
    return settings.model_copy(update={"lease_ms": 600_000, "reap_after_ms": 3_600_000})


@pytest.fixture
def control(plane: Plane, connection: Connection) -> ControlStore:
    return ControlStore(connection, plane.keys)


async def _pause(control: ControlStore, *workers: Worker, tool: str = "echo") -> None:
    await control.pause(tool, who="ann", why="a test")
    heard = [worker._engine._roles.controls for worker in workers]
    await eventually(lambda: all(tool in one.paused for one in heard), because="they hear of the pause")


async def _resume(control: ControlStore, tool: str = "echo") -> None:
    await control.resume(tool, who="ann", why="")
    await control.hasten(tool)


async def _parks(plane: Plane, entry_id: str) -> None:
    async def parked() -> bool:
        return (await plane.pending()).get(entry_id) == ("~parked", 0)

    await eventually(parked, because="the call waits, with its attempt given back")


async def test_calls_of_a_paused_tool_wait_until_it_is_resumed(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    async with running_worker(echo, settings=settings) as worker:
        await _pause(control, worker)
        entry_id = await plane.append("echo", "waits", text="x")
        await _parks(plane, entry_id)
        assert await plane.reply("waits") is None
        await _resume(control)
        reply = await eventually(lambda: plane.reply("waits"), because="it runs", within=5)

    assert (reply.result, reply.attempt) == ("x", 1)
    assert await plane.dead_letters() == []


async def test_what_runs_goes_on_and_other_tools_do_not_notice(
    plane: Plane, settings: Settings, control: ControlStore, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(echo, until, settings=settings) as worker:
        await plane.append("until", "runs", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="it runs")
        await _pause(control, worker, tool="until")
        waits = await plane.append("until", "waits", path=str(runs), release=str(release))
        await plane.append("echo", "other")
        await eventually(lambda: plane.reply("other"), because="another tool is not paused")
        await _parks(plane, waits)
        release.touch()
        reply = await eventually(lambda: plane.reply("runs"), because="what ran comes to its end")
        assert await plane.reply("waits") is None
        await _resume(control, "until")
        await eventually(lambda: plane.reply("waits"), because="what waited runs")

    assert (reply.result, reply.attempt) == (1, 1)


async def test_a_worker_that_starts_later_takes_no_call_of_a_paused_tool(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    ids = [await plane.append("echo", f"c{number}") for number in range(20)]
    await control.pause("echo", who="ann", why="")
    async with running_worker(echo, settings=settings):
        for entry_id in ids:
            await _parks(plane, entry_id)
        replies = await plane.replies()
        await _resume(control)
        await eventually(lambda: _answered(plane, len(ids)), because="all run once it is resumed")

    assert replies == []


async def _answered(plane: Plane, count: int) -> bool:
    return len(await plane.replies()) == count


async def test_a_call_that_nobody_waits_for_any_more_is_answered_while_its_tool_is_paused(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    async with running_worker(echo, settings=settings) as worker:
        await _pause(control, worker)
        fields = plane.codec.encode_call(plane.call("echo", "late"))
        seconds, micros = await plane.redis.time()
        now_ms = seconds * 1000 + micros // 1000
        await plane.add(*fields, "deadline", str(now_ms + 400))
        past = plane.codec.encode_call(plane.call("echo", "past"))
        await plane.add(*past, "deadline", str(now_ms - 1))
        await plane.append("echo", "unanswered", reply=False)
        first = await eventually(lambda: plane.reply("past"), because="its deadline had passed")
        second = await eventually(lambda: plane.reply("late"), because="its deadline passes", within=5)
        await _resume(control)

    assert first.failure.type == second.failure.type == "deadline_exceeded"
    assert second.failure.message == "echo is paused, and the deadline has passed"


async def test_a_paused_tool_that_nobody_serves_is_not_unknown(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    async with running_worker(echo, settings=settings) as worker:
        await _pause(control, worker, tool="moved")
        await _parks(plane, await plane.append("moved", "waits"))
        newer = await plane.add("v", "9", "id", "newer", "tool", "moved", "reply_to", plane.reply_to)
        await _parks(plane, newer)
        assert await plane.replies() == []
        await _resume(control, "moved")
        reply = await eventually(lambda: plane.reply("waits"), because="nobody serves it")
        await eventually(lambda: plane.reply("newer"), because="nobody reads it")

    assert reply.failure.type == "unknown_tool"


async def test_two_workers_do_not_leave_a_resumed_call_to_each_other(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    async with running_worker(echo, settings=settings) as one, running_worker(echo, settings=settings) as two:
        await _pause(control, one, two)
        entry_id = await plane.append("echo", "waits")
        await _parks(plane, entry_id)
        # Each is handed it once more, as a claim whose answer was lost would, and gives it back.
        for worker in (one, two):
            await plane.redis.zrem(plane.keys.parked, entry_id)
            await plane.redis.execute_command(
                "XCLAIM", plane.keys.calls, plane.keys.group, worker.consumer, 0, entry_id, "JUSTID", parse_justid=True
            )
            worker._engine._roles.fetcher._intake._failed = StoreError("an answer was lost")
            await _parks(plane, entry_id)
        await _resume(control)
        await eventually(lambda: plane.reply("waits"), because="one of them runs it", within=5)


async def test_a_call_that_waits_for_a_thread_does_not_begin_once_its_tool_is_paused(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    free, begun = threading.Event(), []

    @tool(timeout=0.1)
    def takes_the_thread() -> None:
        free.wait()

    @tool
    def waits_for_it() -> None:
        begun.append(1)

    one = settings.model_copy(update={"concurrency": 1})
    async with running_worker(takes_the_thread, waits_for_it, settings=one) as worker:
        await plane.append("takes_the_thread", "first")
        await eventually(lambda: plane.reply("first"), because="its time is up")
        entry_id = await plane.append("waits_for_it", "second")

        async def held() -> bool:
            return entry_id in await plane.pending(worker.consumer)

        await eventually(held, because="it is read")
        await _pause(control, worker, tool="waits_for_it")
        free.set()
        await _parks(plane, entry_id)
        assert begun == []
        await _resume(control, "waits_for_it")
        await eventually(lambda: plane.reply("second"), because="it runs")


async def test_an_at_most_once_call_of_a_paused_tool_bears_no_mark(
    plane: Plane, settings: Settings, control: ControlStore, tmp_path: Path
) -> None:
    async with running_worker(once, settings=settings) as worker:
        await _pause(control, worker, tool="once")
        entry_id = await plane.append("once", path=str(tmp_path / "runs"))
        await _parks(plane, entry_id)
        marked_ = await plane.redis.hexists(plane.keys.attempts, f"{entry_id}:mark")
        await _resume(control, "once")
        reply = await eventually(lambda: plane.reply("once"), because="it runs once")

    assert not marked_
    assert reply.result == 1


async def test_a_retry_of_a_paused_tool_waits_with_its_attempts(
    plane: Plane, settings: Settings, control: ControlStore, tmp_path: Path
) -> None:
    from tests.support.toolbox import asks_again  # noqa: PLC0415

    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(asks_again, settings=settings) as worker:
        entry_id = await plane.append("asks_again", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="the first attempt runs")
        await _pause(control, worker, tool="asks_again")
        release.touch()

        async def waits() -> bool:
            due: Any = await plane.redis.zscore(plane.keys.parked, entry_id)
            seconds, _ = await plane.redis.time()
            return due is not None and due > (seconds + 0.7) * 1000

        await eventually(waits, because="the next attempt waits for longer than it asked for")
        assert (await plane.pending())[entry_id] == ("~parked", 1)
        assert starts(runs) == 1
        await _resume(control, "asks_again")
        reply = await eventually(lambda: plane.reply("asks_again"), because="attempts are used up")

    assert reply.attempt == 4


async def test_a_pause_is_heard_with_a_heartbeat_where_nobody_can_listen(
    plane: Plane, settings: Settings, control: ControlStore
) -> None:
    short = settings.model_copy(update={"lease_ms": 1_000})
    async with running_worker(echo, settings=short) as worker:
        # Written as another program might, which does not announce it.
        await plane.redis.hset(plane.keys.control, "pause:echo", '{"who":"bob","why":"","at":1}')
        await eventually(lambda: "echo" in worker._engine._roles.controls.paused, because="a heartbeat tells it")
        await _parks(plane, await plane.append("echo", "waits"))
        await plane.redis.delete(plane.keys.control)
        await control.hasten("echo")
        await eventually(lambda: plane.reply("waits"), because="a heartbeat tells that too")


async def test_programs_with_their_own_process_fn_are_given_no_call_of_a_paused_tool(
    plane: Plane, settings: Settings, control: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLSPAN_PREFIX", settings.prefix)
    given: list[dict[str, Any]] = []

    async def process(payload: dict[str, Any]) -> None:
        given.append(payload)

    await control.pause("echo", who="ann", why="")
    waits = await plane.add("payload", '{"tool": "echo", "id": "waits"}')
    await plane.add("payload", '{"id": "without a tool"}')
    consumer = ToolExecConsumer(plane.redis, "own", process)
    await consumer.start()
    await eventually(lambda: given, because="the other one is given")
    await _parks(plane, waits)
    names = [payload["id"] for payload in given]
    await _resume(control)
    await eventually(lambda: len(given) == 2, because="it is given once it is resumed")
    await consumer.stop()

    assert names == ["without a tool"]


async def test_a_worker_that_is_asked_to_go_finishes_what_it_holds(
    plane: Plane, settings: Settings, control: ControlStore, recorder: Recorder, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    async with running_worker(echo, until, settings=settings, probe=recorder.probe) as worker:
        await plane.append("until", "held", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="it runs")
        await control.drain(worker.consumer, who="ann", why="")
        await eventually(lambda: "toolspan.drain.started" in [name for name, _ in recorder.events], because="it drains")
        entry_id = await plane.append("echo", "not mine")
        release.touch()
        await eventually(lambda: plane.reply("held"), because="what it holds is answered")

        async def left() -> bool:
            return not await plane.beating()

        await eventually(left, because="it leaves")

    assert await plane.consumers() == []
    assert entry_id not in await plane.pending()
    assert (await control.read()).draining == {}


async def test_a_worker_that_drains_is_told_from_one_that_takes_calls(
    plane: Plane, settings: Settings, control: ControlStore, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"

    async def draining() -> bool:
        return worker.consumer in (await control.read()).draining

    async with running_worker(marked, until, settings=settings) as worker:
        await plane.append("until", path=str(runs), release=str(release))
        await eventually(lambda: starts(runs), because="it runs")
        worker.stop()
        await eventually(draining, because="everybody can see that it goes")
        release.touch()
        await asyncio.wait_for(eventually(lambda: plane.reply("until"), because="it ends"), 15)
