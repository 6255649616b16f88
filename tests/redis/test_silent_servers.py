"""Servers that take a connection and then say nothing: whether a call was sent is told right, and soon."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from toolspan.errors import RedisUnavailable, StoreUnavailableError
from toolspan.gateway.client import ToolClient
from toolspan.keys import Keys
from toolspan.settings import Settings
from toolspan.store import CallerStore, Connection
from toolspan.store import connection as limits
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Keeper
from toolspan.testing import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AUTH = b"AUTH"
PING = b"PING"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT", 0.6)


@asynccontextmanager
async def _listener(*, answers: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """Take connections and answer +OK to the command *answers* only; give where, and what came in."""
    heard: list[bytes] = []
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        while data := await reader.read(1 << 16):
            heard.append(data)
            if answers and answers in data:
                writer.write(b"+OK\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()
        for writer in open_ones:
            writer.transport.abort()


@pytest.mark.parametrize(
    "url", ["redis://{}/0", "redis://ada:secret@{}/0", "redis://{}/2", "rediss://{}/0"],
    ids=["nothing to say", "AUTH", "SELECT", "TLS"],
)  # fmt: skip
async def test_a_call_is_not_sent_to_a_server_that_does_not_answer_the_handshake(url: str) -> None:
    async with _listener() as (where, heard):
        connection = Connection.to(url.format(where))
        caller = CallerStore(connection, Keys(), gateway_id="g", block_ms=10)
        with pytest.raises(StoreUnavailableError, match="while we were connecting") as raised:
            await caller.append(["tool", "echo"])
        await connection.aclose()

        assert not raised.value.maybe_ran
        assert not any(b"EVALSHA" in data for data in heard)


@pytest.mark.parametrize(("url", "handshake"), [("redis://{}/0", PING), ("redis://ada:secret@{}/0", AUTH)])
async def test_a_call_that_a_server_took_after_the_handshake_may_have_been_accepted(url: str, handshake: bytes) -> None:
    async with _listener(answers=handshake) as (where, heard):
        connection = Connection.to(url.format(where))
        caller = CallerStore(connection, Keys(), gateway_id="g", block_ms=10)
        with pytest.raises(StoreUnavailableError) as raised:
            await caller.append(["tool", "echo"])
        await connection.aclose()

        assert raised.value.maybe_ran
        assert any(b"EVALSHA" in data for data in heard)


async def test_a_caller_is_told_at_once_that_nothing_was_taken_and_does_not_wait_for_his_timeout() -> None:
    async with _listener() as (where, _):
        settings = Settings(redis_url=f"redis://{where}/0")
        async with asyncio.timeout(10), ToolClient(settings, probe=Recorder().probe) as client:
            with pytest.raises(RedisUnavailable, match="nothing was taken") as raised:
                await client.call("echo", timeout=60)

        assert not raised.value.maybe_accepted


async def test_a_caller_whose_call_was_sent_is_told_that_it_may_have_been_accepted() -> None:
    async with _listener(answers=PING) as (where, _):
        settings = Settings(redis_url=f"redis://{where}/0")
        async with asyncio.timeout(10), ToolClient(settings, probe=Recorder().probe) as client:
            with pytest.raises(RedisUnavailable, match="may have taken the call") as raised:
                await client.call("echo", timeout=1)

        assert raised.value.maybe_accepted


@pytest.mark.parametrize(("answers", "maybe_ran"), [(b"", False), (PING, True)])
async def test_the_thread_of_the_heartbeat_tells_it_too(answers: bytes, maybe_ran: bool) -> None:
    async with _listener(answers=answers) as (where, _):
        connection = Connection.to(f"redis://{where}/0")
        keeper = Keeper(connection, Keys(), me="w", clock=RedisClock(), ttl_ms=1000, timeout=0.3)
        with pytest.raises(StoreUnavailableError) as raised:
            await asyncio.to_thread(keeper.keep, [], running={})
        keeper.close()
        await connection.aclose()

        assert raised.value.maybe_ran is maybe_ran
