"""ensure_group, synchronise, read, owners: coming to hold something."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from toolspan.errors import GroupMissingError, WrongTypeError
from toolspan.store.private import PrivateClient

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore


async def test_a_missing_group_is_made_from_the_first_entry_on(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.plane.add("tool", "echo")
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)

    assert await store.ensure_group() is True
    assert [delivery.entry_id for delivery in await store.read_new(10)] == [entry_id]


async def test_the_stream_is_made_with_the_group(stage: Stage, store: StreamStore) -> None:
    await stage.call("DEL", stage.keys.calls)

    assert await store.ensure_group() is True
    assert await store.read_new(10) == []


async def test_a_group_that_is_there_stays_as_it_is(stage: Stage, store: StreamStore) -> None:
    await stage.held()
    before = await stage.everything()

    assert await store.ensure_group() is False
    assert await stage.everything() == before


async def test_no_group_is_made_where_something_else_lies(stage: Stage, store: StreamStore) -> None:
    await stage.call("SET", stage.keys.calls, "not a stream")

    with pytest.raises(WrongTypeError):
        await store.ensure_group()


async def test_the_estimate_of_redis_clock_is_within_a_round_trip(stage: Stage, store: StreamStore) -> None:
    await store.synchronise()
    before = await stage.now_ms()
    estimate = store.clock.now_ms()
    after = await stage.now_ms()

    assert before - 20 <= estimate <= after + 20


async def test_a_read_that_is_not_to_wait_does_not_ask_for_it(
    store: StreamStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The least time that can be asked for is a millisecond, and a server may take three for it."""
    sent: list[tuple[Any, ...]] = []
    execute = PrivateClient.execute_command

    async def executed(client: PrivateClient, *parts: Any) -> Any:
        sent.append(parts)
        return await execute(client, *parts)

    monkeypatch.setattr(PrivateClient, "execute_command", executed)

    assert await store.read_new(10, wait=False) == []
    [read] = [parts for parts in sent if parts[0] == "XREADGROUP"]
    assert "BLOCK" not in read


async def test_a_read_takes_the_oldest_and_no_more_than_there_is_room_for(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.plane.add("tool", "echo") for _ in range(3)]

    deliveries = await store.read_new(2)

    assert [delivery.entry_id for delivery in deliveries] == ids[:2]
    assert await stage.plane.pending() == {ids[0]: ("me", 1), ids[1]: ("me", 1)}


async def test_a_delivery_is_the_entry_byte_for_byte_in_its_first_attempt(stage: Stage, store: StreamStore) -> None:
    await store.synchronise()
    before = await stage.now_ms()
    entry_id = await stage.plane.add(b"\xff", b"\x00", "again", "1", "again", "2")

    [delivery] = await store.read_new(1)

    assert delivery.fields == [b"\xff", b"\x00", b"again", b"1", b"again", b"2"]
    assert (delivery.attempt, delivery.counted, delivery.origin) == (1, True, "first")
    assert delivery.ready_ms == int(entry_id.split("-")[0])
    assert before - 20 <= delivery.read_ms <= await stage.now_ms() + 20


async def test_what_somebody_holds_is_not_read_again(stage: Stage, store: StreamStore) -> None:
    await stage.held("other")
    mine = await stage.plane.add("tool", "echo")

    assert [delivery.entry_id for delivery in await store.read_new(10)] == [mine]
    assert await store.read_new(10) == []


async def test_a_read_waits_for_the_first_entry(stage: Stage) -> None:
    reading = asyncio.create_task(stage.store(block_ms=10_000).read_new(10))
    await eventually(lambda: _blocked(stage), because="the read waits")
    entry_id = await stage.plane.add("tool", "echo")

    assert [delivery.entry_id for delivery in await reading] == [entry_id]


async def test_a_read_says_that_the_group_is_missing(stage: Stage, store: StreamStore) -> None:
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)

    with pytest.raises(GroupMissingError):
        await store.read_new(1)


async def test_a_waiting_read_says_that_the_stream_was_deleted(stage: Stage) -> None:
    reading = asyncio.create_task(stage.store(block_ms=10_000).read_new(10))
    await eventually(lambda: _blocked(stage), because="the read waits")
    await stage.call("DEL", stage.keys.calls)

    with pytest.raises(GroupMissingError):
        await reading


async def test_the_owners_are_all_who_hold_something_but_what_is_parked(stage: Stage, store: StreamStore) -> None:
    await stage.held("me")
    await stage.held("other")
    await stage.parked()
    await stage.call("XGROUP", "CREATECONSUMER", stage.keys.calls, stage.keys.group, "idle")

    assert sorted(await store.owners()) == ["me", "other"]


async def _blocked(stage: Stage) -> bool:
    info = await stage.redis.info("clients")
    return bool(info["blocked_clients"])
