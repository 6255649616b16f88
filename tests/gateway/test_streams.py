"""A plane of several streams: a call goes to the one whose live workers serve its tool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from tests.support.plane import Plane
from toolspan import ToolTimeout, UnknownTool, tool
from toolspan.keys import Keys
from toolspan.operate.tools import served
from toolspan.telemetry import attributes as at
from toolspan.testing import running_worker

if TYPE_CHECKING:
    import httpx

    from toolspan import ToolClient
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


@tool
async def quick() -> str:
    return "quick"


@tool
async def slow(seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    return "slow"


@pytest.fixture
def batch(settings: Settings) -> Settings:
    return settings.model_copy(update={"stream": "batch"})


async def test_each_tool_is_called_where_it_is_served(
    client: ToolClient, settings: Settings, batch: Settings, recorder: Recorder, plane: Plane
) -> None:
    async with running_worker(quick, settings=settings), running_worker(slow, settings=batch, name="batch"):
        fast = await client.call("quick")
        reply = await client.call("slow")
        sent = await client.send("slow")

        assert (fast.result, reply.result) == ("quick", "slow")
        assert reply.consumer.startswith("batch-")
        assert fast.consumer.startswith("test-")
        assert sent
        await eventually(lambda: _empty(plane, batch.keys), because="what was sent is run there, too")

    assert recorder.total("messaging.client.sent.messages", messaging_destination_name=batch.keys.calls) == 2
    assert recorder.total("messaging.client.sent.messages", messaging_destination_name=settings.keys.calls) == 1
    [span] = [
        span
        for span in recorder.spans
        if span.name == "call slow" and (span.attributes or {}).get(at.MESSAGE_ID) == reply.entry_id
    ]
    assert (span.attributes or {})[at.DESTINATION] == batch.keys.calls


async def test_slow_work_of_one_stream_does_not_hold_up_another(
    client: ToolClient, settings: Settings, batch: Settings
) -> None:
    few = batch.model_copy(update={"concurrency": 2})
    async with running_worker(quick, settings=settings), running_worker(slow, settings=few, name="batch"):
        await client.call("slow")
        waiting = [asyncio.create_task(client.call("slow", {"seconds": 1})) for _ in range(6)]
        for _ in range(20):
            assert (await client.call("quick", timeout=2)).result == "quick"
        assert not all(task.done() for task in waiting)
        assert {reply.result for reply in await asyncio.gather(*waiting)} == {"slow"}


async def test_a_tool_of_both_streams_is_called_in_the_gateways_own(
    client: ToolClient, settings: Settings, batch: Settings
) -> None:
    async with running_worker(quick, settings=batch, name="batch"), running_worker(quick, settings=settings):
        assert (await client.call("quick")).consumer.startswith("test-")


async def test_a_worker_that_appears_and_goes_is_noticed_within_seconds(
    client: ToolClient, settings: Settings, batch: Settings, plane: Plane
) -> None:
    async with running_worker(quick, settings=settings):
        with pytest.raises(UnknownTool):
            await client.call("slow")
        async with running_worker(slow, settings=batch, name="batch"):
            await eventually(lambda: _answers(client), because="its stream is found", within=10)
        await eventually(lambda: _is_unknown(client), because="it goes to the own stream again", within=10)
    # What was sent there meanwhile waits for the next worker of it.
    await plane.redis.delete(batch.keys.calls)


async def test_while_nobody_serves_it_a_call_waits_in_the_own_stream(client: ToolClient, plane: Plane) -> None:
    with pytest.raises(ToolTimeout):
        await client.call("nobody", timeout=0.2)

    assert await plane.left() == 1


async def test_the_tools_of_all_streams_are_listed(
    client: ToolClient, settings: Settings, batch: Settings, http: httpx.AsyncClient
) -> None:
    async with running_worker(quick, settings=settings), running_worker(slow, settings=batch, name="batch"):
        assert [one.name for one in await client.tools()] == ["quick", "slow"]
        assert [one["name"] for one in (await http.get("/v1/tools")).json()["tools"]] == ["quick", "slow"]
        assert [one.name for one, _ in await served(settings)] == ["quick", "slow"]
        answer = await http.post("/v1/tools/slow/calls", json={"args": {}})
        assert answer.json()["result"] == "slow"


async def test_a_stream_is_the_planes_until_its_last_worker_leaves_it_empty(
    settings: Settings, batch: Settings, plane: Plane
) -> None:
    async with running_worker(slow, settings=batch, name="one"):
        async with running_worker(slow, settings=batch, name="two"):
            assert await plane.redis.smembers(settings.keys.streams) == {b"batch"}
        assert await plane.redis.smembers(settings.keys.streams) == {b"batch"}
    assert await plane.redis.smembers(settings.keys.streams) == set()


async def test_what_is_no_name_of_a_stream_is_left_out(client: ToolClient, settings: Settings, plane: Plane) -> None:
    await plane.redis.sadd(settings.keys.streams, "a b", b"\xff", "gone")
    async with running_worker(quick, settings=settings):
        assert (await client.call("quick")).result == "quick"
        assert [one.name for one in await client.tools()] == ["quick"]


async def _empty(plane: Plane, keys: Keys) -> bool:
    return await plane.redis.xlen(keys.calls) == 0


async def _answers(client: ToolClient) -> bool:
    try:
        return bool((await client.call("slow", timeout=2)).result == "slow")
    except UnknownTool:
        return False


async def _is_unknown(client: ToolClient) -> bool:
    try:
        await client.call("slow", timeout=0.3)
    except UnknownTool:
        return True
    except ToolTimeout:
        return False
    return False
