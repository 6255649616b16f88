"""Appends that come at once: they travel together, and each is answered for itself."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from toolspan.errors import StoreUnavailableError, WrongTypeError
from toolspan.store import CallerStore, Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from tests.redis.stage import Stage
    from toolspan.keys import Keys
    from toolspan.testing import EmbeddedServer

MANY = 250


@pytest.fixture
def caller(stage: Stage, connection: Connection) -> CallerStore:
    return _caller(connection, stage.keys)


def _caller(connection: Connection, keys: Keys) -> CallerStore:
    return CallerStore(connection, keys, gateway_id="g", block_ms=20)


def _appends(caller: CallerStore) -> list[Coroutine[Any, Any, str]]:
    return [caller.append(["tool", "echo", "n", str(number)]) for number in range(MANY)]


async def _written(stage: Stage) -> dict[str, str]:
    """Tell what lies in the stream: entry id to number."""
    entries = await stage.call("XRANGE", stage.keys.calls, "-", "+")
    return {entry_id.decode(): fields[3].decode() for entry_id, fields in entries}


async def test_each_is_written_once_and_gets_its_own_entry_id(stage: Stage, caller: CallerStore) -> None:
    ids = await asyncio.gather(*_appends(caller))

    assert await _written(stage) == {entry_id: str(number) for number, entry_id in enumerate(ids)}


async def test_they_need_no_connections_of_their_own(alone: Alone) -> None:
    await asyncio.gather(*_appends(alone.caller))

    info: Any = await alone.connection.commands.info("clients")
    assert info["connected_clients"] <= 2


async def test_one_that_is_refused_is_refused_alone(stage: Stage, caller: CallerStore) -> None:
    elsewhere = f"{stage.keys.calls}:elsewhere"
    await stage.call("SET", elsewhere, "not a stream")
    wrong = [caller.append(["tool", "echo", "n", "wrong"], to=elsewhere) for _ in range(3)]
    *answers, _, refused, _ = await asyncio.gather(*_appends(caller), *wrong, return_exceptions=True)
    await stage.call("DEL", elsewhere)

    assert isinstance(refused, WrongTypeError)
    assert len(await _written(stage)) == MANY
    assert all(isinstance(answer, str) for answer in answers)


class Alone:
    """A caller on a server of his own, which can be stopped."""

    def __init__(self, server: EmbeddedServer) -> None:
        settings = settings_for(server.url)
        self.server = server
        self.connection = Connection.to(settings.redis_url)
        self.caller = _caller(self.connection, settings.keys)
        self._calls = settings.keys.calls

    def sending(self) -> bool:
        """Whether some are under way together."""
        return any(task.get_name() == "appends" for task in asyncio.all_tasks())

    async def held_up(self, count: int) -> list[asyncio.Task[str]]:
        """Begin *count* appends, numbered from 1, on a server that stands still; the first is sent."""
        await self.caller.append(["n", "0"])
        self.server.signal(signal.SIGSTOP)
        tasks = [asyncio.create_task(self.caller.append(["n", str(number)])) for number in range(1, count + 1)]
        await asyncio.sleep(0)
        return tasks

    async def written(self) -> list[int]:
        """Tell the numbers that lie in the stream."""
        entries: Any = await self.connection.commands.xrange(self._calls)
        return [int(number) for _, (_, number) in entries]


@pytest.fixture
async def alone(own_server: EmbeddedServer) -> AsyncIterator[Alone]:
    made = Alone(own_server)
    yield made
    await made.connection.aclose()


async def _cancel(task: asyncio.Task[str]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_who_is_cancelled_before_his_was_sent_has_nothing_written(alone: Alone) -> None:
    first, second, third = await alone.held_up(3)
    await _cancel(second)
    alone.server.signal(signal.SIGCONT)
    await asyncio.gather(first, third)

    assert await alone.written() == [0, 1, 3]


async def test_who_is_cancelled_takes_nobody_with_him(alone: Alone) -> None:
    first, second, third, fourth = await alone.held_up(4)
    await _cancel(first)
    await eventually(alone.sending, because="the others are sent")
    await _cancel(third)
    alone.server.signal(signal.SIGCONT)
    ids = await asyncio.gather(second, fourth)

    assert len(set(ids)) == 2
    assert {2, 4} <= set(await alone.written())


async def test_where_the_server_is_away_everybody_is_told(alone: Alone) -> None:
    await alone.caller.append(["n", "0"])
    alone.server.kill()
    answers = await asyncio.gather(*_appends(alone.caller), return_exceptions=True)

    assert {type(answer) for answer in answers} == {StoreUnavailableError}
