"""The one reader of a client's replies: it goes on through whatever Redis does, and loses none."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.gateway.answerer import Answerer
from tests.support.eventually import eventually
from toolspan import ToolClient
from toolspan.gateway import replies as replies_module
from toolspan.store import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

    from toolspan.testing import EmbeddedServer, Recorder


@pytest.fixture
async def asked(client: ToolClient, worker: Answerer) -> AsyncIterator[asyncio.Task[object]]:
    """A call that waits for its reply, which the test will write."""
    calling = asyncio.create_task(client.call("mute", {"n": 1}, timeout=30))
    await eventually(lambda: worker.seen, because="the call is sent")
    yield calling
    calling.cancel()


async def test_a_reply_with_a_lower_id_than_those_before_is_read(
    client: ToolClient, worker: Answerer, raw: redis.asyncio.Redis
) -> None:
    """So it is after a flush, on a server whose clock is behind the one before."""
    await client.call("echo")
    calling = asyncio.create_task(client.call("mute", {"n": 2}, timeout=10))
    await eventually(lambda: worker.named("mute"), because="the call is sent")
    await raw.delete(worker.seen[0]["reply_to"])
    await worker.answer(worker.seen[1], worker.ids[1], at="5-1")

    assert (await calling).result == {"n": 2}


async def test_a_flushed_server_loses_no_reply_that_comes_later(own_server: EmbeddedServer, recorder: Recorder) -> None:
    connection = Connection.to(own_server.url)
    settings = settings_for(own_server.url)
    async with ToolClient(settings, probe=recorder.probe) as client:
        async with Answerer(connection.commands, settings.prefix) as worker:
            await client.call("echo")
            calling = asyncio.create_task(client.call("mute", {"n": 3}, timeout=10))
            await eventually(lambda: worker.named("mute"), because="the call is sent")
        await connection.commands.flushall()
        await worker.answer(worker.seen[1], worker.ids[1])

        assert (await calling).result == {"n": 3}
    await connection.aclose()


async def test_redis_may_go_away_and_come_back_while_calls_wait(own_server: EmbeddedServer, recorder: Recorder) -> None:
    connection = Connection.to(own_server.url)
    settings = settings_for(own_server.url)
    async with ToolClient(settings, probe=recorder.probe) as client:
        async with Answerer(connection.commands, settings.prefix) as worker:
            calling = asyncio.create_task(client.call("mute", {"n": 4}, timeout=30))
            await eventually(lambda: worker.seen, because="the call is sent")
        own_server.kill()
        await eventually(lambda: not client.replies.healthy, because="the reader notices")
        own_server.start()
        await worker.answer(worker.seen[0], worker.ids[0])

        assert (await calling).result == {"n": 4}
        await eventually(lambda: client.replies.healthy, because="the reader reads again")
    names = [name for name, about in recorder.events if about.get("toolspan.role") == "replies"]
    assert names == ["toolspan.redis.down", "toolspan.redis.up"]
    await connection.aclose()


async def test_something_else_under_the_name_of_the_reply_stream_only_delays(
    client: ToolClient, worker: Answerer, asked: asyncio.Task[object], raw: redis.asyncio.Redis
) -> None:
    reply_to = worker.seen[0]["reply_to"]
    await raw.set(reply_to, "not a stream", ex=60)
    await eventually(lambda: not client.replies.healthy, because="the reader notices")
    await raw.delete(reply_to)
    await worker.answer(worker.seen[0], worker.ids[0])
    await asked

    await eventually(lambda: client.replies.healthy, because="the reader reads again")


@pytest.mark.usefixtures("client")
async def test_what_is_no_reply_is_skipped(
    worker: Answerer, asked: asyncio.Task[object], raw: redis.asyncio.Redis
) -> None:
    reply_to = worker.seen[0]["reply_to"]
    strangers = (
        (b"\xff", b"\xfe"),
        (b"status", b"ok", b"id", b"nobody's"),
        (b"status", b"error", b"error", b"["),
    )
    for fields in strangers:
        await raw.execute_command("XADD", reply_to, "*", *fields)
    await worker.answer(worker.seen[0], worker.ids[0])
    await asked

    await eventually(lambda: _is_empty(raw, reply_to), because="it is deleted like the rest")


async def test_a_call_is_answered_once_however_often_its_reply_lies_there(
    client: ToolClient, worker: Answerer, asked: asyncio.Task[object]
) -> None:
    for _ in range(3):
        await worker.answer(worker.seen[0], worker.ids[0])
    await asked
    reply = await client.call("echo", {"n": 5})

    assert reply.result == {"n": 5}


async def test_a_frozen_server_is_noticed_although_nothing_fails(
    own_server: EmbeddedServer, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies_module, "_STALE_SECONDS", 1.5)
    async with ToolClient(settings_for(own_server.url), probe=recorder.probe) as client:
        assert client.replies.healthy
        own_server.signal(signal.SIGSTOP)
        await eventually(lambda: not client.replies.healthy, because="a read takes longer than its block")
        own_server.signal(signal.SIGCONT)
        await eventually(lambda: client.replies.healthy, because="the read ends")


async def test_a_reader_that_dies_of_a_bug_is_not_hidden(
    client: ToolClient, worker: Answerer, asked: asyncio.Task[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(_: object) -> object:
        raise ZeroDivisionError

    monkeypatch.setattr(client.asking._codec, "decode_answer", bug)
    await worker.answer(worker.seen[0], worker.ids[0])

    with pytest.raises(ZeroDivisionError):
        await asked
    assert not client.replies.healthy
    with pytest.raises(RuntimeError, match="nobody reads replies"):
        await client.call("echo")
    assert len(worker.seen) == 1


async def _is_empty(raw: redis.asyncio.Redis, stream: str) -> bool:
    return bool(await raw.xlen(stream) == 0)
