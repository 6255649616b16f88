"""A call is appended once, whatever becomes of the answer; and its caller is told what may have happened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions

from tests.conftest import settings_for
from tests.gateway.answerer import Answerer
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from toolspan import RedisUnavailable, ToolClient
from toolspan.store.connection import store_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer, Recorder


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(server.port) as made:
        yield made


@pytest.fixture
async def far(settings: Settings, proxy: Proxy, recorder: Recorder) -> AsyncIterator[ToolClient]:
    """A client whose connections can be cut. It has made one call: its scripts are loaded."""
    async with ToolClient(settings, url=proxy.url, probe=recorder.probe) as made:
        yield made


async def test_a_lost_answer_to_the_append_costs_nothing(far: ToolClient, proxy: Proxy, worker: Answerer) -> None:
    await far.call("echo")
    proxy.cut_after(b"EVALSHA")
    reply = await far.call("echo", {"n": 1})

    assert reply.result == {"n": 1}
    assert proxy.cuts == 1
    assert len(worker.seen) == 2


async def test_a_lost_answer_without_a_reply_says_that_the_call_may_have_been_taken(
    far: ToolClient, proxy: Proxy, worker: Answerer
) -> None:
    await far.call("echo")
    proxy.cut_after(b"EVALSHA")
    with pytest.raises(RedisUnavailable, match="may have taken the call") as raised:
        await far.call("mute", timeout=0.3)

    assert raised.value.maybe_accepted
    assert len(worker.named("mute")) == 1
    assert len(far.replies) == 0


async def test_a_command_that_was_lost_is_not_sent_again(far: ToolClient, proxy: Proxy, worker: Answerer) -> None:
    await far.call("echo")
    proxy.cut_before(b"EVALSHA")
    with pytest.raises(RedisUnavailable) as raised:
        await far.call("echo", timeout=0.3)
    await far.call("echo")

    assert raised.value.maybe_accepted
    assert len(worker.seen) == 2


async def test_send_says_at_once_that_its_answer_was_lost(far: ToolClient, proxy: Proxy, worker: Answerer) -> None:
    await far.call("echo")
    proxy.cut_after(b"EVALSHA")
    with pytest.raises(RedisUnavailable) as raised:
        await far.send("mute")
    await eventually(lambda: worker.named("mute"), because="it was taken all the same")

    assert raised.value.maybe_accepted


async def test_where_nobody_listens_nothing_was_taken_and_nobody_waits(recorder: Recorder) -> None:
    settings = settings_for("redis://127.0.0.1:1/0")
    async with ToolClient(settings, probe=recorder.probe) as client, asyncio.timeout(5):
        for asked in (client.call("echo", timeout=60), client.send("echo")):
            with pytest.raises(RedisUnavailable, match="nothing was taken") as raised:
                await asked
            assert not raised.value.maybe_accepted
        for looked in (client.tools(), client.check()):
            with pytest.raises(RedisUnavailable, match=r"^Redis is unavailable \([^;]*\)$"):
                await looked


async def test_a_full_server_takes_nothing(own_server: EmbeddedServer, recorder: Recorder) -> None:
    settings = settings_for(own_server.url)
    async with ToolClient(settings, probe=recorder.probe) as client:
        await client._connection.commands.config_set("maxmemory", 1)
        with pytest.raises(RedisUnavailable, match="maxmemory") as raised:
            await client.call("echo", timeout=60)

    assert not raised.value.maybe_accepted


async def test_a_reply_counts_although_the_answer_to_the_append_is_missing(
    client: ToolClient, worker: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stall_answers(client, monkeypatch)
    reply = await client.call("echo", {"n": 1}, timeout=0.5)

    assert reply.result == {"n": 1}
    assert len(worker.seen) == 1


@pytest.mark.usefixtures("worker")
async def test_a_call_that_was_never_confirmed_may_or_may_not_exist(
    client: ToolClient, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stall_answers(client, monkeypatch)
    with pytest.raises(RedisUnavailable) as raised:
        await client.call("mute", timeout=0.1)

    assert raised.value.maybe_accepted
    assert recorder.total("toolspan.call.duration", toolspan_outcome="no_reply") == 1


def test_a_server_without_room_for_a_connection_was_sent_nothing() -> None:
    error = store_error(exceptions.ConnectionError("max number of clients reached"))

    assert getattr(error, "maybe_ran", None) is False


def _stall_answers(client: ToolClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let appends run, and keep their answers back for ever."""
    append = client._store.append

    async def stalled(fields: Sequence[str | bytes], **options: Any) -> str:
        await append(fields, **options)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(client._store, "append", stalled)
