"""Scripts on servers that do not know them, and on servers that are full."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.redis.stage import Stage, filled
from tests.support.plane import Plane
from toolspan.errors import ServerFullError
from toolspan.store import CallerStore, Connection, ControlStore, Inspector
from toolspan.store.cancellations import CancellationStore
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Held, Keeper
from toolspan.store.limits import LimitStore
from toolspan.store.progress import Progressed, ProgressReply, ProgressStore
from toolspan.store.scripts import Script
from toolspan.store.steps import Burial, Parked, Quarantined, Settled, Settlement, Start, Started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from toolspan.testing import EmbeddedServer


@pytest.fixture
async def alone(own_server: EmbeddedServer) -> AsyncIterator[Stage]:
    """A stage on a server of its own."""
    settings = settings_for(own_server.url)
    connection = Connection.to(settings.redis_url)
    made = Stage(Plane(settings, connection.commands, connection), connection)
    await made.call("XGROUP", "CREATE", made.keys.calls, made.keys.group, "0", "MKSTREAM")
    yield made
    await connection.aclose()


def _keeper(stage: Stage) -> Keeper:
    return Keeper(stage._connection, stage.keys, me="me", clock=RedisClock(), ttl_ms=60_000, timeout=5)


async def test_a_full_server_lets_the_fleet_finish_what_it_holds(alone: Stage) -> None:
    store, keeper = alone.store(), _keeper(alone)
    limits = LimitStore(alone._connection, alone.keys, me="me", clock=RedisClock(), lease_ms=1_000)
    kept, begun, settled, parked, buried = [await alone.held() for _ in range(5)]
    about = ["dlq.id", buried, "dlq.reason", "malformed"]
    await alone.call("CONFIG", "SET", "maxmemory", 1)

    assert keeper.keep([Held(kept, 1, noted=False)], running={}).lost == []
    assert keeper.keep([], running={}).lost == []
    assert (await limits.admit("echo", max_concurrency=1, rate=1, waiting=["1-0"])).count == 1
    assert (await limits.admit("hash", max_concurrency=None, rate=1, waiting=["1-0"])).count == 1
    assert keeper.renew_slots("echo", ["1-0"], lease_ms=1_000) == 1
    assert await store.start([Start(begun, 1, 2, "token")]) == [Started.DONE]
    batch = [Settlement(settled, 1, False, alone.reply_to, *filled("id", "c"))]
    assert await store.settle(1, batch, held=5) == [Settled.DONE]
    assert await store.park(parked, 1, count=1, delay_ms=1, reason="tool_error")
    assert (await store.quarantine(Burial(buried, 1, "malformed", "malformed", about))).status == Quarantined.DONE
    keeper.close()


async def test_a_full_server_lets_an_operator_pause_and_resume(alone: Stage) -> None:
    control, store, keeper = ControlStore(alone._connection, alone.keys), alone.store(), _keeper(alone)
    held, due = await alone.held(), await alone.parked()
    await alone.beats("w")
    await alone.call("CONFIG", "SET", "maxmemory", 1)

    assert await control.pause("echo", who="ann", why="") is None
    assert await store.hold_back(held, 1, count=0, tool="echo") is Parked.DONE
    assert (await store.claim_due(count=10, suspects=1, max_attempts=4)).claimed == []
    assert await control.resume("echo", who="ann", why="") is not None
    assert await control.hasten("echo") == 2
    assert await control.drain("w", who="ann", why="") is not None
    keeper.keep([], running={}, draining=True)
    assert (await control.read()).draining.keys() == {"w", "me"}
    assert due in await alone.plane.pending()
    keeper.close()


async def test_a_full_server_lets_a_caller_give_up(alone: Stage) -> None:
    caller = CallerStore(alone._connection, alone.keys, gateway_id="g", block_ms=20)
    await alone.call("CONFIG", "SET", "maxmemory", 1)
    await caller.cancel("c", ttl_ms=1_000)

    assert await CancellationStore(alone._connection, alone.keys).given_up(["c"]) == ["c"]


async def test_a_full_server_has_no_room_for_progress(alone: Stage) -> None:
    progress = ProgressStore(alone._connection, alone.keys, me="me", reply_ttl_seconds=60, reply_maxlen=100)
    entry_id = await alone.held()
    await alone.call("CONFIG", "SET", "maxmemory", 1)

    reply = ProgressReply(entry_id, 1, alone.reply_to, ["progress", "1"])
    assert await progress.write([reply]) == [Progressed.NO_ROOM]


async def test_a_full_server_takes_no_new_calls(alone: Stage) -> None:
    caller = CallerStore(alone._connection, alone.keys, gateway_id="g", block_ms=20)
    await alone.call("CONFIG", "SET", "maxmemory", 1)

    with pytest.raises(ServerFullError):
        await caller.append(["tool", "echo"])


async def test_a_server_that_has_forgotten_a_script_is_told_it_again(alone: Stage) -> None:
    store, keeper = alone.store(), _keeper(alone)
    entry_id = await alone.held()
    for _ in range(2):
        await alone.call("SCRIPT", "FLUSH")

        assert await store.start([Start(entry_id, 1, 1)]) == [Started.DONE]
        assert keeper.keep([Held(entry_id, 1, noted=True)], running={}).lost == []
    keeper.close()


async def test_a_full_server_is_reported_on(alone: Stage) -> None:
    inspector = Inspector(alone._connection, alone.keys)
    await alone.call("CONFIG", "SET", "maxmemory", 1)

    assert await inspector.elect("me", ttl_ms=10_000)
    assert await inspector.elect("me", ttl_ms=60_000)
    assert await alone.call("PTTL", alone.keys.monitor) > 10_000
    assert not await inspector.elect("other", ttl_ms=10_000)


async def test_a_full_server_lets_lost_due_times_be_restored(alone: Stage) -> None:
    await alone.held("~parked")
    await alone.call("CONFIG", "SET", "maxmemory", 1)

    assert await alone.store().restore_parked() == 1


async def test_runs_that_go_together_happen_once_each_also_where_the_server_has_forgotten_the_script(
    alone: Stage,
) -> None:
    await alone.call("SCRIPT", "FLUSH", "SYNC")
    runs = [{"stream": alone.keys.calls, "timeout_ms": "", "fields": ["n", number]} for number in range(3)]
    _, *ids = await alone._connection.private().execute_commands(Script("append").commands(runs))
    entries = await alone.call("XRANGE", alone.keys.calls, "-", "+")

    assert entries == [[entry_id, [b"n", b"%d" % number]] for number, entry_id in enumerate(ids)]
