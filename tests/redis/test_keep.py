"""keep and register: what the heartbeat's thread does in Redis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.redis.stage import LOST
from toolspan.errors import StoreUnavailableError
from toolspan.model import ToolInfo
from toolspan.store import Connection
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Held, Keeper, Load, Registration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.redis.stage import Stage

TTL_MS = 60_000
REGISTRATION = Registration(
    host="h", pid=7, version="1.2", protocol=1, lease_ms=1_000, concurrency=5, start_ms=99, tools={"echo": "d1gest"}
)
TOOL = ToolInfo("echo", "Give back.", {"type": "object"}, "at_least_once", None)


@pytest.fixture
def clock() -> RedisClock:
    return RedisClock()


@pytest.fixture
def keeper(stage: Stage, connection: Connection, clock: RedisClock) -> Iterator[Keeper]:
    made = Keeper(connection, stage.keys, me="me", clock=clock, ttl_ms=TTL_MS, timeout=5)
    yield made
    made.close()


async def test_a_heartbeat_is_written_by_redis_clock(stage: Stage, keeper: Keeper, clock: RedisClock) -> None:
    before = await stage.now_ms()
    keeper.keep([], running={})
    after = await stage.now_ms()

    assert before <= int(await stage.call("ZSCORE", stage.keys.workers, "me")) <= after
    assert before - 20 <= clock.now_ms() <= await stage.now_ms() + 20


async def test_a_lease_is_renewed_without_counting_an_attempt(stage: Stage, keeper: Keeper) -> None:
    entry_id = await stage.held(attempt=2, idle_ms=60_000)

    assert keeper.keep([Held(entry_id, 2, noted=True)], running={}).lost == []
    assert await stage.plane.pending() == {entry_id: ("me", 2)}
    assert await stage.idle_ms(entry_id) < 30_000


async def test_the_attempt_is_put_on_record_before_its_time_of_delivery_is_erased(stage: Stage, keeper: Keeper) -> None:
    delivered_ms = await stage.now_ms() - 60_000
    entry_id = await stage.held(idle_ms=60_000)
    keeper.keep([Held(entry_id, 1, noted=False)], running={})

    [attempt] = await stage.attempts(entry_id)
    # The script and XPENDING look at the clock one after the other, maybe in two milliseconds.
    assert delivered_ms - 1 <= attempt.pop("start") <= delivered_ms + 1_000
    assert attempt == {"consumer": "me", "attempt": 1}


async def test_what_is_on_record_is_not_written_again(stage: Stage, keeper: Keeper) -> None:
    entry_id = await stage.held()
    keeper.keep([Held(entry_id, 1, noted=True)], running={})

    assert await stage.attempts(entry_id) == []


@pytest.mark.parametrize("how", LOST)
async def test_what_is_no_longer_ours_is_told_and_left_alone(stage: Stage, keeper: Keeper, how: str) -> None:
    keeper.keep([], running={})
    entry_id = await stage.held(idle_ms=60_000)
    kept = await stage.held()
    await stage.lose(entry_id, how)
    before = await stage.everything()
    answer = keeper.keep([Held(entry_id, 1, noted=False)], running={})
    after = await stage.everything()

    assert answer.lost == [(entry_id, 1)]
    assert {**after, stage.keys.workers: None} == {**before, stage.keys.workers: None}
    assert (await stage.plane.pending())[kept] == ("me", 1)


async def test_a_loss_is_told_with_the_attempt_that_was_asked_about(stage: Stage, keeper: Keeper) -> None:
    entry_id = await stage.held(attempt=3)

    assert keeper.keep([Held(entry_id, 2, noted=True)], running={}).lost == [(entry_id, 2)]


async def test_what_a_group_made_anew_has_not_handed_out_yet_is_not_lost(stage: Stage, keeper: Keeper) -> None:
    entry_id = await stage.held()
    await stage.recreate_group()

    assert keeper.keep([Held(entry_id, 1, noted=False)], running={}).lost == []
    assert await stage.plane.pending() == {}
    assert await stage.attempts(entry_id) == []


async def test_a_call_without_a_body_is_left_alone(stage: Stage, keeper: Keeper) -> None:
    entry_id = await stage.held(idle_ms=60_000)
    neighbour = await stage.held(idle_ms=60_000)
    await stage.delete_body(entry_id)
    answer = keeper.keep([Held(entry_id, 1, noted=False), Held(neighbour, 1, noted=True)], running={})

    assert answer.lost == []
    assert await stage.plane.pending() == {entry_id: ("me", 1), neighbour: ("me", 1)}
    assert await stage.idle_ms(entry_id) >= 60_000
    assert await stage.attempts(entry_id) == []


async def test_what_we_hold_without_knowing_it_may_lie_between(stage: Stage, keeper: Keeper) -> None:
    first = await stage.held(idle_ms=60_000)
    unknown = [await stage.held(idle_ms=60_000) for _ in range(5)]
    last = await stage.held(idle_ms=60_000)

    assert keeper.keep([Held(first, 1, noted=True), Held(last, 1, noted=True)], running={}).lost == []
    assert await stage.idle_ms(last) < 30_000
    assert await stage.idle_ms(unknown[0]) >= 60_000


async def test_entries_are_told_apart_by_number_not_by_text(stage: Stage, keeper: Keeper) -> None:
    held = ["9-1", "9-10", "10-2"]
    for entry_id in held:
        await stage.call("XADD", stage.keys.calls, entry_id, "tool", "echo")
        await stage.hold(entry_id, "me")

    assert keeper.keep([Held(entry_id, 1, noted=True) for entry_id in sorted(held)], running={}).lost == []


async def test_thousands_are_renewed_in_one_heartbeat(stage: Stage, keeper: Keeper) -> None:
    pipeline = stage.redis.pipeline(transaction=False)
    for _ in range(2_500):
        pipeline.execute_command("XADD", stage.keys.calls, "*", "tool", "echo")
    ids = [entry_id.decode() for entry_id in await pipeline.execute()]
    await stage.store().read_new(2_500)
    await stage.call("EVAL", _AGE, 1, stage.keys.calls, stage.keys.group)

    assert keeper.keep([Held(entry_id, 1, noted=True) for entry_id in ids], running={}).lost == []
    assert (
        await stage.call("XPENDING", stage.keys.calls, stage.keys.group, "IDLE", 30_000, "-", "+", 5_000, "me")
    ) == []


async def test_a_registered_worker_says_what_runs_and_does_not_expire(stage: Stage, keeper: Keeper) -> None:
    worker = stage.keys.worker("me")
    keeper.register(REGISTRATION, {})
    await stage.call("PEXPIRE", worker, 5_000)

    load = Load(again=(3, 2, 1), oldest=[("1-0", 2, 7)])
    assert keeper.keep([], running={"1-0": "echo"}, load=load).registered is True
    told = await stage.fields(worker)
    assert json.loads(told["running"]) == {"1-0": "echo"}
    assert json.loads(told["load"]) == {"again": [3, 2, 1], "oldest": [["1-0", 2, 7]]}
    assert 5_000 < await stage.call("PTTL", worker) <= TTL_MS


async def test_an_answer_kept_for_the_last_batch_is_no_registration(stage: Stage, keeper: Keeper) -> None:
    worker = stage.keys.worker("me")
    await stage.call("HSET", worker, "batch", "1:1")
    await stage.call("PEXPIRE", worker, 5_000)

    assert keeper.keep([], running={"1-0": "echo"}).registered is False
    assert await stage.fields(worker) == {"batch": "1:1"}
    assert await stage.call("PTTL", worker) <= 5_000


async def test_a_registration_tells_the_fleet_of_the_worker(stage: Stage, keeper: Keeper) -> None:
    keeper.register(REGISTRATION, {"d1gest": TOOL})

    assert await stage.fields(stage.keys.worker("me")) == {
        "host": "h",
        "pid": "7",
        "version": "1.2",
        "protocol": "1",
        "lease": "1000",
        "start": "99",
        "concurrency": "5",
        "tools": '{"echo":"d1gest"}',
        "running": "{}",
    }
    assert 0 < await stage.call("PTTL", stage.keys.worker("me")) <= TTL_MS
    assert await stage.call("SMEMBERS", stage.keys.streams) == {b"tools"}


async def test_a_tool_is_described_under_its_digest_until_nobody_serves_it(stage: Stage, keeper: Keeper) -> None:
    keeper.register(REGISTRATION, {"d1gest": TOOL})

    key = stage.keys.schema("d1gest")
    assert json.loads(await stage.call("GET", key)) == {
        "name": "echo",
        "description": "Give back.",
        "schema": {"type": "object"},
        "delivery": "at_least_once",
        "timeout_seconds": None,
    }
    assert 0 < await stage.call("PTTL", key) <= TTL_MS


async def test_a_heartbeat_that_cannot_reach_redis_says_so(stage: Stage, clock: RedisClock) -> None:
    nowhere = Connection.to("unix:///nowhere/at/all.sock")
    keeper = Keeper(nowhere, stage.keys, me="me", clock=clock, ttl_ms=TTL_MS, timeout=5)

    with pytest.raises(StoreUnavailableError):
        keeper.keep([], running={})
    with pytest.raises(StoreUnavailableError):
        keeper.register(REGISTRATION, {})


_AGE = """
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 5000)) do
  redis.call('XCLAIM', KEYS[1], ARGV[1], entry[2], 0, entry[1], 'IDLE', 60000, 'JUSTID')
end
"""


@pytest.mark.parametrize("how", ["acknowledged by hand", "a group made anew at its end"])
async def test_what_the_group_has_passed_is_lost(stage: Stage, keeper: Keeper, how: str) -> None:
    entry_id = await stage.held()
    await stage.pass_by(entry_id, how)

    assert keeper.keep([Held(entry_id, 1, noted=False)], running={}).lost == [(entry_id, 1)]


async def test_of_the_calls_that_are_asked_about_those_that_were_given_up_are_told(
    stage: Stage, keeper: Keeper
) -> None:
    """However many are asked about: they are looked up page by page."""
    calls = [f"c{number}" for number in range(2_500)]
    given_up = [calls[place] for place in (0, 1, 999, 1_000, 1_999, 2_000, 2_499)]
    for call_id in (*given_up, "of somebody else"):
        await stage.call("SET", stage.keys.cancel(call_id), "1", "PX", 60_000)

    assert keeper.keep([], running={}, calls=calls).cancelled == given_up
    assert keeper.keep([], running={}, calls=calls[2:9]).cancelled == []
    assert keeper.keep([], running={}).cancelled == []
