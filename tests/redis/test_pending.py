"""pending: which calls are held, by whom, for how long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from toolspan.errors import GroupMissingError
from toolspan.operate.pending import pending

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.operate.pending import PendingCall
    from toolspan.store import Connection

CALL = ("v", "1", "id", "c1", "tool", "echo", "args", "{}")


async def _pending(stage: Stage, connection: Connection, *, limit: int = 100, **asked: Any) -> list[PendingCall]:
    return (await pending(connection, stage.plane.settings, limit=limit, **asked)).calls


async def test_a_pending_call_is_told_without_a_write(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.held("w", attempt=2, idle_ms=5_000, fields=(*CALL, "principal", "ada"))
    before = await stage.everything()
    [call] = await _pending(stage, connection)

    assert (call.entry_id, call.call_id, call.tool, call.consumer, call.attempt) == (entry_id, "c1", "echo", "w", 2)
    assert 5 <= call.idle < 15
    assert (call.runs_for, call.deadline_left, call.deleted) == (None, None, False)
    after = await stage.everything()
    # How long it is idle grows by itself.
    assert {key: value for key, value in after.items() if "stream" not in key} == {
        key: value for key, value in before.items() if "stream" not in key
    }  # fmt: skip
    assert await stage.plane.pending() == {entry_id: ("w", 2)}


async def test_the_oldest_of_all_consumers_come_first(stage: Stage, connection: Connection) -> None:
    ids = [await stage.held(owner) for owner in ("b", "a", "b", "c", "a")]
    found = await pending(connection, stage.plane.settings, limit=3)
    rest = await pending(connection, stage.plane.settings, limit=5)

    assert ([call.entry_id for call in found.calls], found.more) == (ids[:3], True)
    assert ([call.entry_id for call in rest.calls], rest.more) == (ids, False)


async def test_ids_are_ordered_as_numbers(stage: Stage, connection: Connection) -> None:
    for entry_id in ("9-9", "9-10", "10-0"):
        await stage.call("XADD", stage.keys.calls, entry_id, *CALL)
    for entry_id, owner in (("9-9", "b"), ("9-10", "a"), ("10-0", "b")):
        await stage.hold(entry_id, owner)

    assert [call.entry_id for call in await _pending(stage, connection)] == ["9-9", "9-10", "10-0"]


async def test_only_what_was_not_renewed_for_so_long_is_listed(stage: Stage, connection: Connection) -> None:
    old = await stage.held("w", idle_ms=300_000)
    await stage.held("w", idle_ms=200_000)
    older = await stage.held("v", idle_ms=400_000)

    assert [call.entry_id for call in await _pending(stage, connection, older_ms=300_000)] == [old, older]


async def test_parked_calls_are_listed_only_if_asked_for(stage: Stage, connection: Connection) -> None:
    held, parked = await stage.held("w"), await stage.parked()

    assert [call.entry_id for call in await _pending(stage, connection)] == [held]
    assert [call.entry_id for call in await _pending(stage, connection, parked=True)] == [held, parked]


async def test_an_attempt_on_record_says_since_when_it_runs(stage: Stage, connection: Connection) -> None:
    now_ms = await stage.now_ms()
    running, ended, another, claimed = [await stage.held("w", attempt=2) for _ in range(4)]
    run = {"consumer": "w", "attempt": 2, "start": now_ms - 90_000}
    await stage.note(running, {"consumer": "v", "attempt": 1, "start": 1, "end": 2}, run)
    await stage.note(ended, {**run, "end": now_ms})
    await stage.note(another, {**run, "consumer": "v"})
    await stage.note(claimed, {**run, "attempt": 1})
    runs_for = {call.entry_id: call.runs_for for call in await _pending(stage, connection)}

    assert {ended: None, another: None, claimed: None}.items() <= runs_for.items()
    since = runs_for[running]
    assert since is not None
    assert 90 <= since < 100


@pytest.mark.parametrize("left_ms", [60_000, -60_000])
async def test_a_deadline_is_told_by_the_clock_of_redis(stage: Stage, connection: Connection, left_ms: int) -> None:
    await stage.held(fields=(*CALL, "deadline", str(await stage.now_ms() + left_ms)))
    [call] = await _pending(stage, connection)

    assert call.deadline_left is not None
    assert left_ms / 1000 - 10 < call.deadline_left <= left_ms / 1000


@pytest.mark.parametrize(
    ("fields", "known"),
    [
        (("tool", "echo", "args", "no json", "v", "1", "id", "c1"), ("c1", "echo")),
        (("v", "2", "id", "c1", "tool", "echo"), ("c1", "echo")),
        (("payload", '{"id":"c1","tool":"echo","args":{}}'), ("c1", "echo")),
        (("x", "y"), (None, None)),
    ],
)
async def test_what_can_be_read_of_a_call_is_told(
    stage: Stage, connection: Connection, fields: tuple[str, ...], known: tuple[str | None, str | None]
) -> None:
    await stage.held(fields=fields)
    [call] = await _pending(stage, connection)

    assert (call.call_id, call.tool) == known


async def test_a_call_whose_body_is_deleted_is_listed_as_that(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.held()
    await stage.delete_body(entry_id)
    [call] = await _pending(stage, connection)

    assert (call.entry_id, call.call_id, call.tool, call.deleted) == (entry_id, None, None, True)


async def test_what_a_consumer_of_any_name_holds_is_listed(stage: Stage, connection: Connection) -> None:
    await stage.held(b"caf\xe9")

    assert [call.consumer for call in await _pending(stage, connection)] == ["caf\ufffd"]


@pytest.mark.parametrize("owner", ["w", "~parked"])
async def test_no_command_goes_through_all_that_a_consumer_holds(
    stage: Stage, connection: Connection, owner: str
) -> None:
    await stage.call("EVAL", _HAND_OUT, 1, stage.keys.calls, stage.keys.group, owner, 20_000)
    old = await stage.held(owner, idle_ms=300_000)
    await stage.call("CONFIG", "RESETSTAT")
    [call] = await _pending(stage, connection, older_ms=300_000, parked=True)
    statistics = await stage.call("INFO", "commandstats")

    assert call.entry_id == old
    assert "cmdstat_xautoclaim" not in statistics
    assert int(statistics["cmdstat_xpending"]["calls"]) == 21


async def test_without_a_group_nothing_can_be_pending(stage: Stage, connection: Connection) -> None:
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)

    with pytest.raises(GroupMissingError):
        await _pending(stage, connection)


_HAND_OUT = """
for i = 1, ARGV[3] do redis.call('XADD', KEYS[1], '*', 'tool', 'echo') end
redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
"""
