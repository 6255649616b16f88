"""A connection that one role has for itself."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions

from tests.support.eventually import eventually
from toolspan.store import Connection
from toolspan.store import connection as limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

    from toolspan.settings import Settings
    from toolspan.store.private import PrivateClient


@pytest.fixture
async def client(connection: Connection) -> AsyncIterator[PrivateClient]:
    made = connection.private()
    yield made
    await made.aclose()


async def test_an_answer_comes_as_redis_sent_it(client: PrivateClient, settings: Settings) -> None:
    stream = f"{settings.prefix}:on-purpose"
    await client.execute_command("XADD", stream, "1-1", "name", "a", "name", "b")

    assert await client.execute_command("XRANGE", stream, "-", "+") == [[b"1-1", [b"name", b"a", b"name", b"b"]]]
    assert await client.execute_command("SCRIPT EXISTS", "0" * 40) == [0]
    await client.execute_command("DEL", stream)


async def test_a_refusal_is_raised_and_harms_no_later_command(client: PrivateClient) -> None:
    with pytest.raises(exceptions.NoScriptError):
        await client.execute_command("EVALSHA", "0" * 40, 0)

    assert await client.execute_command("ECHO", "next") == b"next"


async def test_of_commands_that_go_together_each_has_its_answer_or_its_refusal(client: PrivateClient) -> None:
    commands = [("ECHO", "one"), ("EVALSHA", "0" * 40, 0), ("ECHO", "three")]
    one, refused, three = await client.execute_commands(commands)

    assert (one, three) == (b"one", b"three")
    assert isinstance(refused, exceptions.NoScriptError)
    assert await client.execute_command("ECHO", "next") == b"next"


async def test_a_connection_that_is_lost_is_the_error_of_those_that_have_no_answer_yet(client: PrivateClient) -> None:
    number = await client.execute_command("CLIENT ID")
    # It closes itself once it has told that it does.
    answers = await client.execute_commands(
        [("ECHO", "one"), ("CLIENT KILL", "ID", number, "SKIPME", "no"), ("ECHO", "three")]
    )

    assert answers[:2] == [b"one", 1]
    assert isinstance(answers[2], exceptions.ConnectionError)
    assert await client.execute_command("ECHO", "next") == b"next"


async def test_a_connection_that_was_cut_is_made_anew(client: PrivateClient, raw: redis.asyncio.Redis) -> None:
    first = await client.execute_command("CLIENT ID")
    await raw.execute_command("CLIENT", "KILL", "ID", first)

    async def second() -> Any:
        try:
            return await client.execute_command("CLIENT ID")
        except exceptions.ConnectionError:
            return None

    assert await eventually(second, because="it is connected again") != first


async def test_an_answer_that_nobody_waits_for_any_more_is_not_taken_for_the_next(
    client: PrivateClient, raw: redis.asyncio.Redis, settings: Settings
) -> None:
    waiting = asyncio.create_task(client.execute_command("BLPOP", f"{settings.prefix}:none", 60))

    async def blocked() -> int:
        return int((await raw.info("clients"))["blocked_clients"])

    await eventually(blocked, because="the command was sent")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert await client.execute_command("ECHO", "next") == b"next"


async def test_an_answer_has_its_whole_time_and_no_more_whatever_was_waited_for_before(
    client: PrivateClient, raw: redis.asyncio.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, real, passed = asyncio.get_running_loop(), asyncio.get_running_loop().time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + passed[0])

    async def pass_by(part: float) -> None:
        passed[0] += part * limits.ANSWER_TIMEOUT
        for _ in range(3):
            await asyncio.sleep(0)

    async def blocked() -> int:
        return int((await raw.info("clients"))["blocked_clients"])

    await client.execute_command("ECHO", "at once")
    await pass_by(0.7)
    waiting = asyncio.create_task(client.execute_command("BLPOP", f"{settings.prefix}:none", 60))
    await eventually(blocked, because="the command was sent")
    # By now it is later than the first one might have waited until.
    await pass_by(0.7)
    assert not waiting.done()

    await pass_by(0.4)
    with pytest.raises(exceptions.TimeoutError, match="reading"):
        await waiting
    assert await client.execute_command("ECHO", "next") == b"next"


async def test_a_command_of_many_bytes_arrives_whole(client: PrivateClient) -> None:
    large = b"x" * 5_000_000

    assert await client.execute_command("ECHO", large) == large


async def test_a_server_that_stops_reading_is_not_waited_for_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER_TIMEOUT", 0.3)
    done = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(b"+PONG\r\n")
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await done.wait()
        writer.transport.abort()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    connection = Connection.to(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    try:
        async with asyncio.timeout(10):
            with pytest.raises(exceptions.TimeoutError, match="writing"):
                await connection.private().execute_command("ECHO", b"x" * 50_000_000)
    finally:
        done.set()
        server.close()
        await connection.aclose()
