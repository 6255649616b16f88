"""status and consumers: what the group looks like, and who is in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from toolspan.errors import StoreUnavailableError
from toolspan.operate.consumers import consumers
from toolspan.operate.status import status
from toolspan.store import Connection

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.operate.consumers import Consumer
    from toolspan.operate.status import Status


async def _registers(stage: Stage, name: str, *, ago_ms: int = 0, **fields: Any) -> None:
    about = {
        "host": "h",
        "pid": 7,
        "version": "1.2",
        "protocol": 1,
        "lease": 1_000,
        "start": 5,
        "concurrency": 10,
        "tools": '{"echo":"d1"}',
        "running": "{}",
        **fields,
    }
    await stage.call("HSET", stage.keys.worker(name), *(part for pair in about.items() for part in pair))
    await stage.call("PEXPIRE", stage.keys.worker(name), 60_000)
    await stage.beats(name, ago_ms=ago_ms)


async def _status(stage: Stage, connection: Connection) -> Status:
    return await status(connection, stage.plane.settings)


async def _consumers(stage: Stage, connection: Connection) -> dict[str, Consumer]:
    return {one.name: one for one in await consumers(connection, stage.plane.settings)}


async def _appended(stage: Stage, *, ago_ms: int) -> str:
    entry_id = f"{await stage.now_ms() - ago_ms}-0"
    await stage.call("XADD", stage.keys.calls, entry_id, "tool", "echo")
    return entry_id


async def test_nobody_need_look_at_a_group_without_calls(stage: Stage, connection: Connection) -> None:
    before = await stage.everything()
    found = await _status(stage, connection)

    assert (found.group, found.undelivered, found.pending, found.parked, found.dead_letters) == (True, 0, 0, 0, 0)
    assert (found.live_workers, found.room, found.attention) == (0, 0, [])
    assert found.oldest_undelivered_age is found.oldest_pending_age is found.oldest_parked_age is None
    assert await stage.everything() == before


@pytest.mark.parametrize(("first", "second"), [("w", "~parked"), ("~parked", "w")])
async def test_each_kind_of_call_has_the_age_of_its_oldest(
    stage: Stage, connection: Connection, first: str, second: str
) -> None:
    for ago_ms, owner in ((900_000, first), (600_000, second), (500_000, first), (400_000, second)):
        await stage.hold(await _appended(stage, ago_ms=ago_ms), owner)
    await stage.call("ZADD", stage.keys.parked, 1, "1-1", 1, "1-2")
    await _appended(stage, ago_ms=90_000)
    letter_ms = await stage.now_ms() - 60_000
    await stage.call("XADD", stage.keys.dead_letters, f"{letter_ms}-0", "dlq.id", "1-0")
    found = await _status(stage, connection)
    age_of = {"w": found.oldest_pending_age, "~parked": found.oldest_parked_age}
    ages = (age_of[first], age_of[second], found.oldest_undelivered_age)

    assert (found.parked, found.pending, found.undelivered, found.dead_letters) == (2, 2, 1, 1)
    assert [age is not None and int(age) // 10 * 10 for age in (*ages, found.oldest_dead_letter_age)] == [
        900, 600, 90, 60,
    ]  # fmt: skip


async def test_room_is_what_live_workers_do_not_run(stage: Stage, connection: Connection) -> None:
    await _registers(stage, "a", running='{"1-0":"echo","2-0":"add"}')
    await _registers(stage, "b", concurrency=5)
    await _registers(stage, "full", concurrency=1, running='{"1-0":"echo","2-0":"add"}')
    await _registers(stage, "silent", ago_ms=1_001)
    found = await _status(stage, connection)

    assert (found.live_workers, found.silent_workers, found.room) == (3, 1, 13)


async def test_somebody_should_look_where_calls_wait_for_no_worker(stage: Stage, connection: Connection) -> None:
    await stage.held("w")
    await stage.plane.append("echo")
    alone = await _status(stage, connection)
    await _registers(stage, "w")
    served = await _status(stage, connection)

    assert alone.attention == ["no live worker, and 2 calls wait"]
    assert served.attention == []


async def test_somebody_should_look_at_workers_that_are_silent_or_unreadable(
    stage: Stage, connection: Connection
) -> None:
    await _registers(stage, "silent", ago_ms=1_001)
    await _registers(stage, "strange", pid="soon")
    found = await _status(stage, connection)

    assert (found.attention, found.unreadable) == (
        ["1 workers are silent", "1 registrations cannot be read"], ["strange"],
    )  # fmt: skip


async def test_what_cannot_be_counted_is_told_as_unknown(stage: Stage, connection: Connection) -> None:
    await stage.call("SET", stage.keys.dead_letters, "something else", "EX", 60)
    found = await _status(stage, connection)

    assert (found.dead_letters, found.undelivered) == (None, 0)
    assert found.attention == ["some figures cannot be known: something else lies under a key of ours"]


@pytest.mark.parametrize("stream", ["with calls", "none"])
async def test_without_a_group_calls_and_dead_letters_are_counted(
    stage: Stage, connection: Connection, stream: str
) -> None:
    await _appended(stage, ago_ms=90_000)
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)
    await stage.call("XADD", stage.keys.dead_letters, "1-0", "dlq.id", "1-0")
    if stream == "none":
        await stage.call("DEL", stage.keys.calls)
    found = await _status(stage, connection)

    assert (found.group, found.pending, found.parked, found.dead_letters) == (False, 0, 0, 1)
    if stream == "none":
        assert (found.undelivered, found.oldest_undelivered_age, found.attention) == (0, None, [])
    else:
        assert (found.undelivered, found.attention) == (1, ["no live worker, and 1 calls wait"])
        assert found.oldest_undelivered_age is not None
        assert 90 <= found.oldest_undelivered_age < 100


async def test_a_redis_that_is_away_is_no_empty_group(stage: Stage) -> None:
    nowhere = Connection.to("unix:///nowhere/at/all.sock")
    with pytest.raises(StoreUnavailableError):
        await _status(stage, nowhere)
    await nowhere.aclose()


# ── consumers ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_consumer_is_what_its_heartbeat_and_registration_say(stage: Stage, connection: Connection) -> None:
    await _registers(stage, "live")
    await _registers(stage, "silent", ago_ms=1_001)
    await _registers(stage, "strange", lease="soon")
    await stage.beats("beats only")
    await stage.held("foreign")
    await stage.parked()
    before = await stage.everything()
    found = await _consumers(stage, connection)

    assert {name: one.state for name, one in found.items()} == {
        "live": "live", "silent": "silent", "strange": "unreadable", "beats only": "unregistered",
        "foreign": "unregistered", "~parked": "parked",
    }  # fmt: skip
    assert {name: one.pending for name, one in found.items() if one.pending is not None} == {
        "foreign": 1, "~parked": 1,
    }  # fmt: skip
    assert await stage.everything() == before


async def test_a_worker_tells_what_it_runs_now(stage: Stage, connection: Connection) -> None:
    running = {"1-0": "echo", "2-0": "add", "3-0": "echo"}
    await _registers(stage, "w", ago_ms=300, running=json.dumps(running))
    for _ in range(3):
        await stage.held("w")
    one = (await _consumers(stage, connection))["w"]

    assert one.worker is not None
    assert (one.pending, one.worker.running, one.worker.tools) == (3, running, {"echo": "d1"})
    assert one.silent_ms is not None
    assert 300 <= one.silent_ms < 10_000


@pytest.mark.parametrize("running", ["", "[]", "{", "1", '{"1-0": 5}', b"\xff"])
async def test_a_worker_that_does_not_tell_what_it_runs_is_a_worker(
    stage: Stage, connection: Connection, running: str | bytes
) -> None:
    await _registers(stage, "w", running=running)
    one = (await _consumers(stage, connection))["w"]

    assert one.worker is not None
    assert (one.state, one.worker.running) == ("live", {})


async def test_a_registration_of_another_type_or_a_beat_that_is_no_time_hides_nobody(
    stage: Stage, connection: Connection
) -> None:
    await _registers(stage, "good")
    await _registers(stage, "endless")
    await stage.call("ZADD", stage.keys.workers, "inf", "endless")
    await stage.beats("string")
    await stage.call("SET", stage.keys.worker("string"), "not a hash", "EX", 60)
    found = await _consumers(stage, connection)

    assert {name: one.state for name, one in found.items()} == {
        "good": "live", "endless": "unreadable", "string": "unreadable",
    }  # fmt: skip
    assert found["endless"].silent_ms is None


async def test_consumers_of_any_name_are_listed(stage: Stage, connection: Connection) -> None:
    await stage.held(b"caf\xe9")

    assert (await _consumers(stage, connection))["caf\ufffd"].pending == 1


async def test_workers_are_known_without_a_group(stage: Stage, connection: Connection) -> None:
    await _registers(stage, "w")
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)
    found = await _consumers(stage, connection)

    assert (found["w"].state, found["w"].pending) == ("live", None)
