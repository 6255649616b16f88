"""A caller's own reply stream: read, trim, forget."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from toolspan.errors import WrongTypeError
from toolspan.store import CallerStore

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection


@pytest.fixture
def caller(stage: Stage, connection: Connection) -> CallerStore:
    return CallerStore(connection, stage.keys, gateway_id="on-purpose", block_ms=20)


async def _reply(stage: Stage, caller: CallerStore, *fields: str | bytes) -> str:
    entry_id: bytes = await stage.call("XADD", caller.reply_to, "*", *fields)
    return entry_id.decode()


async def test_replies_are_read_in_order_and_byte_for_byte(stage: Stage, caller: CallerStore) -> None:
    first = await _reply(stage, caller, "id", "1", b"\xff", b"\x00")
    second = await _reply(stage, caller, "id", "2", "id", "2")

    replies = await caller.read_replies()

    assert [reply.id for reply in replies] == [first, second]
    assert [reply.fields for reply in replies] == [[b"id", b"1", b"\xff", b"\x00"], [b"id", b"2", b"id", b"2"]]


async def test_what_one_read_gave_is_deleted_by_the_next_and_nothing_else(stage: Stage, caller: CallerStore) -> None:
    await _reply(stage, caller, "id", "1")
    await caller.read_replies()
    second = await _reply(stage, caller, "id", "2")

    assert [reply.id for reply in await caller.read_replies()] == [second]
    assert [reply["id"] for reply in await stage.entries(caller.reply_to)] == ["2"]


async def test_replies_that_could_not_be_deleted_are_given_again(stage: Stage, caller: CallerStore) -> None:
    await _reply(stage, caller, "id", "1")
    [first] = await caller.read_replies()
    await stage.call("RENAME", caller.reply_to, "elsewhere")
    await stage.call("SET", caller.reply_to, "no stream")

    with pytest.raises(WrongTypeError):
        await caller.read_replies()
    await stage.call("RENAME", "elsewhere", caller.reply_to)

    assert [reply.id for reply in await caller.read_replies()] == [first.id]


async def test_a_read_without_replies_ends_with_its_block(caller: CallerStore) -> None:
    assert await caller.read_replies() == []


async def test_a_read_waits_for_the_first_reply(stage: Stage, connection: Connection) -> None:
    caller = CallerStore(connection, stage.keys, gateway_id="on-purpose", block_ms=10_000)
    reading = asyncio.create_task(caller.read_replies())
    await eventually(lambda: _blocked(stage), because="the read waits")
    await _reply(stage, caller, "id", "1")

    assert len(await reading) == 1


async def test_a_forgotten_reply_stream_is_gone(stage: Stage, caller: CallerStore) -> None:
    await _reply(stage, caller, "id", "1")
    await caller.forget_replies()

    assert await stage.call("EXISTS", caller.reply_to) == 0


async def _blocked(stage: Stage) -> bool:
    info = await stage.redis.info("clients")
    return bool(info["blocked_clients"])
