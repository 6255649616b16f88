"""append_if: one call, unless its idempotency key stands for one already or too many wait."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.redis.stage import Stage
from tests.support.plane import Plane
from toolspan.errors import BacklogFull, IdempotencyConflict, ServerFullError, StoreError, WrongTypeError
from toolspan.model import OnceKey, Remembered
from toolspan.store import CallerStore, Connection

if TYPE_CHECKING:
    from toolspan.testing import EmbeddedServer

ARGS, OTHER_ARGS = "aa", "bb"


def _caller(stage: Stage, *, limit: int | None = None) -> CallerStore:
    return CallerStore(
        stage._connection, stage.keys, gateway_id="g", block_ms=20, backlog_limit=limit, once_ttl_seconds=100
    )


async def _append(stage: Stage, call_id: str, *, args: str = ARGS, limit: int | None = None) -> Remembered:
    key = OnceKey("k", json.dumps(call_id), args)
    return await _caller(stage, limit=limit).append_once(
        ["v", "1", "id", call_id], timeout_ms=30_000, call_id=call_id, key=key
    )


async def _record(stage: Stage) -> bytes | None:
    raw: bytes | None = await stage.call("GET", stage.keys.once("k"))
    return raw


async def test_the_first_call_is_appended_and_remembered_for_a_time(stage: Stage) -> None:
    first = await _append(stage, 'c"1')

    [entry] = await stage.entries(stage.keys.calls)
    assert entry["id"] == 'c"1'
    assert "deadline" in entry
    assert json.loads(await _record(stage) or b"") == {"entry": first.entry_id, "id": 'c"1', "args": ARGS}
    assert 90 < await stage.call("TTL", stage.keys.once("k")) <= 100


async def test_the_same_key_with_the_same_arguments_is_the_first_call(stage: Stage) -> None:
    first = await _append(stage, 'c"1')
    before = await stage.everything()

    assert await _append(stage, "c2") == Remembered('c"1', first.entry_id, None)
    assert await stage.everything() == before


async def test_the_same_key_with_other_arguments_is_a_conflict(stage: Stage) -> None:
    await _append(stage, "c1")
    before = await stage.everything()
    with pytest.raises(IdempotencyConflict, match="c1"):
        await _append(stage, "c2", args=OTHER_ARGS)

    assert await stage.everything() == before


@pytest.mark.parametrize("held", [True, False])
async def test_an_open_call_that_was_lost_stands_in_nobodys_way(stage: Stage, *, held: bool) -> None:
    first = await _append(stage, "c1")
    if held:
        await stage.hold(first.entry_id, "me")
    await stage.delete_body(first.entry_id)
    # While somebody holds it, it runs, and may end well.
    assert (await _append(stage, "c2", args=ARGS)).call_id == ("c1" if held else "c2")
    if held:
        await stage.call("XACK", stage.keys.calls, stage.keys.group, first.entry_id)

        assert (await _append(stage, "c3", args=OTHER_ARGS)).call_id == "c3"


async def test_an_append_without_a_group_finds_the_first_call_too(stage: Stage) -> None:
    await _append(stage, "c1")
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)

    assert (await _append(stage, "c2")).call_id == "c1"


async def test_what_is_no_record_is_as_good_as_none(stage: Stage) -> None:
    await stage.call("SET", stage.keys.once("k"), "on-purpose")

    assert (await _append(stage, "c1")).call_id == "c1"


async def test_a_record_whose_reply_cannot_be_read_is_an_error(stage: Stage) -> None:
    await stage.call("SET", stage.keys.once("k"), '{"entry":"1-1","id":"c","args":"aa","reply":[1]}', "EX", 60)

    with pytest.raises(StoreError, match="cannot be read"):
        await _append(stage, "c1")


async def test_something_else_under_the_key_is_said(stage: Stage) -> None:
    await stage.call("LPUSH", stage.keys.once("k"), "x")
    await stage.call("EXPIRE", stage.keys.once("k"), 60)
    with pytest.raises(WrongTypeError):
        await _append(stage, "c1")

    assert await stage.plane.left() == 0


async def test_a_full_server_has_neither_call_nor_record(own_server: EmbeddedServer) -> None:
    settings = settings_for(own_server.url)
    connection = Connection.to(settings.redis_url)
    stage = Stage(Plane(settings, connection.commands, connection), connection)
    await stage.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ServerFullError):
        await _append(stage, "c1")

    assert await stage.everything() == {}
    await connection.aclose()


async def test_what_waits_counts_and_what_runs_does_not(stage: Stage) -> None:
    await stage.held()
    await stage.parked()
    await stage.plane.append("echo")
    caller = _caller(stage, limit=3)

    await caller.append(["tool", "echo"])
    with pytest.raises(BacklogFull, match="3 of 3 calls wait") as raised:
        await caller.append(["tool", "echo"])
    assert 1 <= raised.value.retry_after <= 3
    assert await stage.plane.left() == 4


async def test_where_all_that_lies_there_runs_nothing_waits(stage: Stage) -> None:
    await stage.held()

    await _caller(stage, limit=1).append(["tool", "echo"])
    assert await stage.plane.left() == 2


async def test_where_what_is_parked_cannot_be_counted_the_others_are(stage: Stage) -> None:
    await stage.call("SET", stage.keys.parked, "not a sorted set", "EX", 60)
    await stage.plane.append("echo")

    await _caller(stage, limit=2).append(["tool", "echo"])
    with pytest.raises(BacklogFull, match="2 of 2 calls wait"):
        await _caller(stage, limit=2).append(["tool", "echo"])


async def test_a_backlog_is_counted_without_a_group_and_without_a_stream(stage: Stage) -> None:
    await stage.call("DEL", stage.keys.calls)
    caller = _caller(stage, limit=1)
    await caller.append(["tool", "echo"], timeout_ms=1_000)
    with pytest.raises(BacklogFull):
        await caller.append(["tool", "echo"])

    assert "deadline" in (await stage.entries(stage.keys.calls))[0]


async def test_a_call_that_is_known_is_told_although_the_backlog_is_full(stage: Stage) -> None:
    await _append(stage, "c1", limit=1)

    assert (await _append(stage, "c2", limit=1)).call_id == "c1"
    with pytest.raises(BacklogFull):
        await _caller(stage, limit=1).append(["tool", "echo"])


async def test_what_is_not_asked_for_costs_nothing(own_server: EmbeddedServer) -> None:
    settings = settings_for(own_server.url)
    connection = Connection.to(settings.redis_url)
    stage = Stage(Plane(settings, connection.commands, connection), connection)
    caller = _caller(stage)
    await caller.append(["tool", "echo"])
    await stage.call("CONFIG", "RESETSTAT")
    for _ in range(10):
        await caller.append(["tool", "echo"], timeout_ms=1_000)
    stats = await stage.redis.info("commandstats")
    await connection.aclose()

    counted = {name: stat["calls"] for name, stat in stats.items() if "config" not in name and "info" not in name}
    assert counted == {"cmdstat_evalsha": 10, "cmdstat_xadd": 10, "cmdstat_time": 10}
