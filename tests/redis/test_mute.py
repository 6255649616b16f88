"""Whoever may not publish, or write records, does everything else: what is refused to him fails no step."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from tests.redis.stage import Stage, filled
from toolspan.store import CallerStore, Connection, ControlStore
from toolspan.store.cancellations import CancellationStore
from toolspan.store.steps import Ending, Settled, Settlement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from toolspan.testing import EmbeddedServer


@pytest.fixture
async def mute(stage: Stage, server: EmbeddedServer) -> AsyncIterator[Stage]:
    """The same stage for somebody who may do everything but publish."""
    async with _barred(stage, server, "resetchannels") as made:
        yield made


@asynccontextmanager
async def _barred(stage: Stage, server: EmbeddedServer, *rules: str) -> AsyncIterator[Stage]:
    await stage.call("ACL", "SETUSER", "barred", "on", ">secret", "~*", "&*", "+@all", *rules)
    connection = Connection.to(server.url.replace("://", "://barred:secret@"))
    yield Stage(stage.plane, connection)
    await connection.aclose()
    await stage.call("ACL", "DELUSER", "barred")


async def test_what_an_operator_asks_for_is_on_record(mute: Stage) -> None:
    control = ControlStore(mute._connection, mute.keys)
    await mute.beats("w")

    assert await control.pause("echo", who="ann", why="") is None
    assert await control.resume("echo", who="ann", why="") is not None
    assert await control.drain("w", who="ann", why="") is not None
    assert (await control.read()).draining.keys() == {"w"}


async def test_a_call_that_is_given_up_is_found(mute: Stage) -> None:
    await CallerStore(mute._connection, mute.keys, gateway_id="g", block_ms=20).cancel("c", ttl_ms=1_000)

    assert await CancellationStore(mute._connection, mute.keys).given_up(["c"]) == ["c"]


async def test_orphans_are_claimed_though_others_do_not_hear_of_the_rest(mute: Stage) -> None:
    first, _ = [await mute.held("gone", idle_ms=60_000) for _ in range(2)]
    claims = await mute.store().claim("gone", lease_ms=30_000, count=1, suspects=1, max_attempts=4)

    assert [claim.delivery.entry_id for claim in claims.claimed] == [first]


async def _settled(stage: Stage, *, kept: bool) -> bytes:
    """Settle a call with an idempotency key, and give what is on record of it."""
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.once("k"), f'{{"entry":"{entry_id}","id":"c","args":"aa"}}', "EX", 60)
    batch = [Settlement(entry_id, 1, False, stage.reply_to, *filled("id", "c"), Ending("k", kept, b"[]"))]

    assert await stage.store().settle(1, batch, held=1) == [Settled.DONE]
    assert await stage.plane.left() == 0
    record: bytes = await stage.call("GET", stage.keys.once("k"))
    return record


async def test_a_call_with_an_idempotency_key_ends(mute: Stage) -> None:
    assert b'"reply":[]' in await _settled(mute, kept=True)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_call_ends_whose_record_cannot_be_written(stage: Stage, server: EmbeddedServer, *, kept: bool) -> None:
    async with _barred(stage, server, "-set", "-del") as barred:
        assert b'"args":"aa"}' in await _settled(barred, kept=kept)
