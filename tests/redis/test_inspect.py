"""What the fleet tells of itself: workers, silent consumers, tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.errors import GroupMissingError, StoreUnavailableError
from toolspan.model import ToolInfo
from toolspan.store import Connection, Inspector, WorkerInfo
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Keeper, Registration

if TYPE_CHECKING:
    from tests.redis.stage import Stage

ECHO = ToolInfo("echo", "Give back.", {"type": "object"}, "at_most_once", 2.5)
ADD = ToolInfo("add", "Add.", {"type": "object"}, "at_least_once", None)
SILENT_MS = 30_000


@pytest.fixture
def inspector(stage: Stage, connection: Connection) -> Inspector:
    return Inspector(connection, stage.keys)


async def _registers(stage: Stage, connection: Connection, name: str, *, ago_ms: int = 0, **tools: ToolInfo) -> None:
    keeper = Keeper(connection, stage.keys, me=name, clock=RedisClock(), ttl_ms=60_000, timeout=5)
    served = {tool.name: digest for digest, tool in tools.items()}
    keeper.register(Registration("h", 7, "1.2", 1, 1_000, 5, 99, served), tools)
    keeper.close()
    await stage.beats(name, ago_ms=ago_ms)


async def test_workers_tell_of_themselves(stage: Stage, inspector: Inspector, connection: Connection) -> None:
    await _registers(stage, connection, "w", ago_ms=300, d1=ECHO)

    [worker] = await inspector.workers()

    assert worker == WorkerInfo("w", worker.silent_ms, "h", 7, "1.2", 1, 1_000, 99, 5, {"echo": "d1"})
    assert 300 <= worker.silent_ms < 10_000


async def test_a_worker_is_live_within_its_lease(stage: Stage, inspector: Inspector, connection: Connection) -> None:
    await _registers(stage, connection, "live")
    await _registers(stage, connection, "silent", ago_ms=1_001)

    assert {worker.consumer: worker.live for worker in await inspector.workers()} == {"live": True, "silent": False}


async def test_a_heartbeat_without_a_registration_is_no_worker(stage: Stage, inspector: Inspector) -> None:
    await stage.beats("w")
    await stage.call("HSET", stage.keys.worker("w"), "batch", "1:1")
    await stage.call("PEXPIRE", stage.keys.worker("w"), 60_000)

    assert await inspector.workers() == []


async def test_nobody_works_where_nobody_beats(inspector: Inspector) -> None:
    assert await inspector.workers() == []
    assert await inspector.tools() == []


async def test_the_tools_of_live_workers_are_described_once_each(
    stage: Stage, inspector: Inspector, connection: Connection
) -> None:
    await _registers(stage, connection, "a", d1=ECHO)
    await _registers(stage, connection, "b", d1=ECHO, d2=ADD)

    assert await inspector.tools() == [ADD, ECHO]


async def test_the_tools_of_silent_workers_are_not_served(
    stage: Stage, inspector: Inspector, connection: Connection
) -> None:
    await _registers(stage, connection, "a", d1=ECHO)
    await _registers(stage, connection, "b", ago_ms=1_001, d2=ADD)

    assert await inspector.tools() == [ECHO]


async def test_a_tool_whose_description_is_gone_is_left_out(
    stage: Stage, inspector: Inspector, connection: Connection
) -> None:
    await _registers(stage, connection, "a", d1=ECHO, d2=ADD)
    await stage.call("DEL", stage.keys.schema("d2"))

    assert await inspector.tools() == [ECHO]


async def test_the_silent_are_those_who_hold_nothing_and_were_not_heard_of(stage: Stage, inspector: Inspector) -> None:
    for name in ("never heard of", "long silent", "holds", "beats"):
        await stage.call("XGROUP", "CREATECONSUMER", stage.keys.calls, stage.keys.group, name)
    await stage.held("holds")
    await stage.beats("long silent", ago_ms=SILENT_MS + 1_000)
    await stage.beats("holds", ago_ms=SILENT_MS + 1_000)
    await stage.beats("beats", ago_ms=SILENT_MS - 10_000)
    await stage.beats("no consumer", ago_ms=SILENT_MS + 1_000)
    await stage.beats("not one yet", ago_ms=SILENT_MS - 10_000)

    found = await inspector.silent_consumers(SILENT_MS)

    assert sorted(found) == ["long silent", "never heard of", "no consumer"]


async def test_without_a_group_nobody_is_silent(stage: Stage, inspector: Inspector) -> None:
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)

    with pytest.raises(GroupMissingError):
        await inspector.silent_consumers(SILENT_MS)


async def test_a_ping_says_whether_redis_answers(inspector: Inspector, stage: Stage) -> None:
    nowhere = Connection.to("unix:///nowhere/at/all.sock")
    await inspector.ping()

    with pytest.raises(StoreUnavailableError):
        await Inspector(nowhere, stage.keys).ping()
    await nowhere.aclose()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("pid", ""), ("host", b"\xff"), ("lease", "soon"), ("concurrency", "many"), ("start", "9" * 5_000)),
        *(("tools", ""), ("tools", "[]"), ("tools", "1"), ("tools", "{"), ("tools", b'"\xff"')),
    ],
)
async def test_a_registration_that_cannot_be_read_is_no_worker_and_hides_no_other(
    stage: Stage, inspector: Inspector, connection: Connection, field: str, value: str | bytes
) -> None:
    await _registers(stage, connection, "good", d1=ECHO)
    await _registers(stage, connection, "strange", d2=ADD)
    await stage.call("HSET", stage.keys.worker("strange"), field, value)

    assert [worker.consumer for worker in await inspector.workers()] == ["good"]
    assert await inspector.tools() == [ECHO]


async def test_a_registration_of_a_wrong_type_or_beat_hides_no_other(
    stage: Stage, inspector: Inspector, connection: Connection
) -> None:
    await _registers(stage, connection, "good", d1=ECHO)
    await _registers(stage, connection, "endless", d1=ECHO)
    await stage.call("ZADD", stage.keys.workers, "inf", "endless")
    await stage.beats("strange")
    await stage.call("SET", stage.keys.worker("strange"), "not a hash", "EX", 60)

    assert [worker.consumer for worker in await inspector.workers()] == ["good"]


async def test_the_name_of_a_worker_may_be_any_bytes(
    stage: Stage, inspector: Inspector, connection: Connection
) -> None:
    await _registers(stage, connection, "good", d1=ECHO)
    strange = stage.keys.worker("caf").encode() + b"\xe9"
    await stage.call("RENAME", stage.keys.worker("good"), strange)
    await stage.call("ZADD", stage.keys.workers, await stage.now_ms(), b"caf\xe9")
    workers = await inspector.workers()
    await stage.call("DEL", strange)

    assert [worker.consumer for worker in workers] == ["caf\ufffd"]


@pytest.mark.parametrize("description", ["", "[]", "{", '{"name": "add"}', '{"a": 1}', b"\xff"])
async def test_a_tool_whose_description_cannot_be_read_is_left_out(
    stage: Stage, inspector: Inspector, connection: Connection, description: str | bytes
) -> None:
    await _registers(stage, connection, "a", d1=ECHO, d2=ADD)
    await stage.call("SET", stage.keys.schema("d2"), description, "EX", 60)

    assert await inspector.tools() == [ECHO]


async def test_a_silent_consumer_of_any_name_can_be_reaped(stage: Stage, inspector: Inspector) -> None:
    await stage.call("XGROUP", "CREATECONSUMER", stage.keys.calls, stage.keys.group, b"caf\xe9")
    await stage.call("ZADD", stage.keys.workers, 1, b"th\xe9")

    found = await inspector.silent_consumers(SILENT_MS)

    assert [await stage.store().reap(name, silent_ms=0) for name in found] == [True, True]
    assert await inspector.silent_consumers(SILENT_MS) == []


async def test_pending_calls_are_told_of_consumers_of_any_name(stage: Stage, inspector: Inspector) -> None:
    await stage.held(b"caf\xe9")

    assert await inspector.pending_by_consumer() == {"caf\ufffd": 1}
