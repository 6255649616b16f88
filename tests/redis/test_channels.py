"""Channels: who listens hears at once, knows from when on, and notices when he does no more."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import binary_of
from toolspan.errors import StoreUnavailableError
from toolspan.store import CallerStore, Channels, Connection, ControlStore, channels
from toolspan.store.channels import Told
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.plane import Plane


@pytest.fixture
async def listening(connection: Connection) -> AsyncIterator[Channels]:
    made = Channels(connection)
    await made.open()
    yield made
    await made.close()


async def _next(listening: Channels) -> Told:
    while True:
        told = await listening.next()
        if told is not None:
            return told


async def test_whoever_listens_is_told_from_when_on(plane: Plane, listening: Channels) -> None:
    await listening.subscribe([plane.keys.control])
    await listening.subscribe_to_all(plane.keys.cancel_prefix)

    assert await _next(listening) == (plane.keys.control, None)
    assert await _next(listening) == (f"{plane.keys.cancel_prefix}*", None)


@pytest.mark.parametrize("asked", ["pause", "resume", "drain"])
async def test_whoever_listens_hears_at_once_what_operators_ask_for(
    plane: Plane, connection: Connection, listening: Channels, asked: str
) -> None:
    control = ControlStore(connection, plane.keys)
    seconds, _ = await plane.redis.time()
    await plane.redis.zadd(plane.keys.workers, {"w": seconds * 1000})
    await control.pause("known", who="ann", why="")
    await listening.subscribe([plane.keys.control])
    await _next(listening)
    if asked == "pause":
        await control.pause("echo", who="ann", why="")
    elif asked == "resume":
        await control.resume("known", who="ann", why="")
    else:
        await control.drain("w", who="ann", why="")
    told = await _next(listening)
    await plane.redis.delete(plane.keys.control)

    assert told.channel == plane.keys.control
    assert told.message is not None


async def test_whoever_listens_through_a_pattern_hears_which_call_was_given_up(
    plane: Plane, connection: Connection, listening: Channels
) -> None:
    callers = CallerStore(connection, plane.keys, gateway_id="one", block_ms=100)
    await listening.subscribe_to_all(plane.keys.cancel_prefix)
    await _next(listening)
    await callers.cancel("a call: ünï", ttl_ms=1_000)
    told = await _next(listening)

    assert told.channel == plane.keys.cancel("a call: ünï")
    assert told.message is not None


async def test_nothing_is_heard_any_more_of_what_nobody_listens_to(plane: Plane, listening: Channels) -> None:
    await listening.subscribe(["left", "kept"])
    assert [(await _next(listening)).channel for _ in range(2)] == ["left", "kept"]
    await listening.unsubscribe("left")
    assert await listening.next() is None
    await plane.redis.publish("left", "1")
    await plane.redis.publish("kept", "2")

    assert await _next(listening) == ("kept", b"2")


async def test_a_connection_that_is_cut_says_so_rather_than_miss_a_word_and_is_made_anew(
    plane: Plane, listening: Channels
) -> None:
    await listening.subscribe([plane.keys.control])
    await _next(listening)
    hearing = asyncio.create_task(listening.next())
    await plane.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(StoreUnavailableError):
        await hearing
    await listening.open()
    await listening.subscribe([plane.keys.control])

    assert await _next(listening) == (plane.keys.control, None)


@pytest.mark.parametrize("subscribed", [True, False])
async def test_a_long_silence_is_none_where_the_server_still_answers(
    plane: Plane, listening: Channels, monkeypatch: pytest.MonkeyPatch, *, subscribed: bool
) -> None:
    monkeypatch.setattr(channels, "SILENT_SECONDS", 0.5)
    if subscribed:
        await listening.subscribe([plane.keys.control])
        await _next(listening)

    assert [await listening.next() for _ in range(2)] == [None] * 2


async def test_a_server_that_stands_still_counts_as_gone(server_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SILENT_SECONDS", 0.2)
    with EmbeddedServer(binary=binary_of(server_name)) as server:
        connection = Connection.to(server.url)
        listening = Channels(connection)
        await listening.open()
        await listening.subscribe(["channel"])
        await _next(listening)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailableError, match="nobody answers"):
                await listening.next()
        finally:
            os.kill(server.pid, signal.SIGCONT)
            await listening.close()
            await connection.aclose()


async def test_who_cannot_listen_hears_why() -> None:
    connection = Connection.to("unix:///nowhere/at/all.sock")
    nowhere = Channels(connection)

    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            await nowhere.open()
    await nowhere.close()
    await connection.aclose()
