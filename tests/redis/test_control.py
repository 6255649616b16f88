"""pause, resume, hasten, drain: what operators ask of the workers, and what the other steps make of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.redis.stage import CALL, LOST
from toolspan.model import Control, Order
from toolspan.store import Connection, ControlStore, Inspector
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Keeper
from toolspan.store.steps import Parked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

LATER = 9_999_999_999_999
PAYLOAD = ("payload", '{"tool": "echo", "args": {}}')
OTHERS = (
    ("tool", "other"),
    ("tool", "other", *PAYLOAD),
    ("payload", '{"tool": "other"}'),
    ("payload", "7"),
    ("payload", "no JSON"),
)


@pytest.fixture
def control(stage: Stage, connection: Connection) -> ControlStore:
    return ControlStore(connection, stage.keys)


@pytest.fixture
def keeper(stage: Stage, connection: Connection) -> Iterator[Keeper]:
    made = Keeper(connection, stage.keys, me="me", clock=RedisClock(), ttl_ms=60_000, timeout=5)
    yield made
    made.close()


async def _due_ms(stage: Stage, entry_id: str) -> int:
    return int(await stage.call("ZSCORE", stage.keys.parked, entry_id))


async def _paused_for(stage: Stage, ms: int, tool: str = "echo") -> None:
    order = json.dumps({"who": "o", "why": "", "at": await stage.now_ms() - ms})
    await stage.call("HSET", stage.keys.control, f"pause:{tool}", order)


async def _claimed(store: StreamStore) -> list[str]:
    claims = await store.claim_due(count=10, suspects=1, max_attempts=4)
    return [claim.delivery.entry_id for claim in claims.claimed]


# ── what is asked for ──────────────────────────────────────────────────────────────────────────────


async def test_a_pause_is_on_record_with_who_why_and_when(stage: Stage, control: ControlStore) -> None:
    before = await stage.now_ms()
    assert await control.pause("echo", who="ann", why="so slow") is None
    after = await stage.now_ms()
    read = await control.read()

    order = read.paused["echo"]
    assert (order.who, order.why) == ("ann", "so slow")
    assert before <= order.at_ms <= after
    assert read == Control({"echo": order}, {})
    [entry] = await stage.entries(stage.keys.audit)
    assert entry == {"action": "pause", "who": "ann", "at": str(order.at_ms), "tool": "echo", "why": "so slow"}


async def test_who_paused_first_stays_on_record(stage: Stage, control: ControlStore) -> None:
    await control.pause("echo", who="ann", why="one")
    before = await stage.everything()

    known = await control.pause("echo", who="bob", why="two")

    assert known is not None
    assert (known.who, known.why) == ("ann", "one")
    assert await stage.everything() == before


async def test_a_resume_takes_the_pause_back_and_says_who_had_asked_for_it(stage: Stage, control: ControlStore) -> None:
    await control.pause("echo", who="ann", why="")
    known = await control.resume("echo", who="bob", why="all well")

    assert known is not None
    assert known.who == "ann"
    assert await stage.call("EXISTS", stage.keys.control) == 0
    last = (await stage.entries(stage.keys.audit))[-1]
    assert (last["action"], last["who"], last["tool"], last["why"]) == ("resume", "bob", "echo", "all well")


async def test_to_resume_what_is_not_paused_writes_nothing(stage: Stage, control: ControlStore) -> None:
    before = await stage.everything()

    assert await control.resume("echo", who="bob", why="") is None
    assert await stage.everything() == before


async def test_a_worker_is_asked_to_go_once(stage: Stage, control: ControlStore) -> None:
    await stage.beats("w-1-aa", ago_ms=5_000)
    asked = await control.drain("w-1-aa", who="ann", why="new kernel")
    before = await stage.everything()
    again = await control.drain("w-1-aa", who="bob", why="")

    assert asked is not None
    assert again is not None
    assert (asked.anew, again.anew) == (True, False)
    assert 5_000 <= asked.silent_ms < 15_000
    assert (await control.read()).draining["w-1-aa"].who == "ann"
    assert await stage.everything() == before
    [entry] = await stage.entries(stage.keys.audit)
    assert (entry["action"], entry["who"], entry["consumer"], entry["why"]) == ("drain", "ann", "w-1-aa", "new kernel")
    await stage.call("DEL", stage.keys.control)


async def test_a_worker_that_nobody_knows_is_not_asked(stage: Stage, control: ControlStore) -> None:
    before = await stage.everything()

    assert await control.drain("nobody", who="ann", why="") is None
    assert await stage.everything() == before


@pytest.mark.parametrize(
    "value",
    ["", "not json", "[]", "7", "null", '{"who": 1, "at": "x"}', '{"at": 1e999}', '{"at": 9007199254740994}', b"\xff"],
)
async def test_a_tool_is_paused_also_where_nobody_can_read_by_whom(
    stage: Stage, control: ControlStore, store: StreamStore, value: str | bytes
) -> None:
    entry_id = await stage.parked()
    fields = ("something:else", "x", "pause:", "x", "pause:echo", value, "pause:other", "x")
    await stage.call("HSET", stage.keys.control, *fields)

    assert (await control.read()).paused["echo"] == Order("", "", 0)
    assert await _claimed(store) == []
    assert await _due_ms(stage, entry_id) > await stage.now_ms() + 20_000


async def test_nothing_is_paused_where_something_else_lies(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked()
    await stage.call("SET", stage.keys.control, "not a hash")

    assert await _claimed(store) == [entry_id]
    await stage.call("DEL", stage.keys.control)


# ── who hears it ───────────────────────────────────────────────────────────────────────────────────


async def test_every_heartbeat_tells_what_is_asked_for(control: ControlStore, keeper: Keeper) -> None:
    assert keeper.keep([], running={}).control == Control({}, {})
    await control.pause("echo", who="ann", why="")

    assert keeper.keep([], running={}).control == await control.read()


async def test_a_heartbeat_goes_on_where_something_else_lies_under_the_key(stage: Stage, keeper: Keeper) -> None:
    await stage.call("SET", stage.keys.control, "x", "EX", 60)
    kept = keeper.keep([], running={}, draining=True)

    assert kept.control is None
    assert await stage.call("ZSCORE", stage.keys.workers, "me")
    await stage.call("DEL", stage.keys.control)


async def test_a_draining_worker_says_so_until_it_is_reaped(
    stage: Stage, control: ControlStore, keeper: Keeper, store: StreamStore, connection: Connection
) -> None:
    inspector = Inspector(connection, stage.keys)
    keeper.keep([], running={}, draining=True)
    measured, told = await inspector.snapshot(lease_ms=60_000), (await control.read()).draining
    await store.reap("me", silent_ms=0)
    left = await inspector.snapshot(lease_ms=60_000)

    assert told["me"].who == "me"
    assert (measured.live_workers, measured.draining_workers) == (0, 1)
    assert (left.live_workers, left.draining_workers) == (0, 0)
    assert (await control.read()).draining == {}


async def test_a_heartbeat_keeps_who_asked_the_worker_to_go(
    control: ControlStore, keeper: Keeper, store: StreamStore
) -> None:
    keeper.keep([], running={})
    await control.drain("me", who="ann", why="")
    keeper.keep([], running={}, draining=True)

    assert (await control.read()).draining["me"].who == "ann"
    await store.reap("me", silent_ms=0)


# ── calls that wait ────────────────────────────────────────────────────────────────────────────────


async def test_a_call_of_a_paused_tool_waits_with_its_attempt_given_back(
    stage: Stage, control: ControlStore, store: StreamStore
) -> None:
    await control.pause("echo", who="ann", why="")
    entry_id = await stage.held()
    before = await stage.now_ms()

    assert await store.hold_back(entry_id, 1, count=0, tool="echo") is Parked.DONE
    assert await stage.plane.pending() == {entry_id: ("~parked", 0)}
    assert before + 800 <= await _due_ms(stage, entry_id) <= await stage.now_ms() + 1_200
    assert await stage.attempts(entry_id) == []
    [event] = await stage.events()
    assert (event["event"], event["entry"], event["reason"]) == ("released", entry_id, "paused")


@pytest.mark.parametrize(("paused_for_ms", "least", "most"), [(4_000, 3_200, 5_000), (3_600_000, 24_000, 36_100)])
async def test_the_longer_a_tool_is_paused_the_longer_its_calls_wait(
    stage: Stage, store: StreamStore, paused_for_ms: int, least: int, most: int
) -> None:
    await _paused_for(stage, paused_for_ms)
    entry_id = await stage.held()
    before = await stage.now_ms()
    await store.hold_back(entry_id, 1, count=0, tool="echo")

    assert least <= await _due_ms(stage, entry_id) - before <= most


async def test_calls_that_are_held_back_together_are_not_looked_at_together(stage: Stage, store: StreamStore) -> None:
    await _paused_for(stage, 3_600_000)
    ids = [await stage.held() for _ in range(10)]
    for entry_id in ids:
        await store.hold_back(entry_id, 1, count=0, tool="echo")

    due = [await _due_ms(stage, entry_id) for entry_id in ids]
    assert max(due) - min(due) > 1_000


async def test_a_call_is_looked_at_again_when_its_deadline_passes(stage: Stage, store: StreamStore) -> None:
    await _paused_for(stage, 3_600_000)
    entry_id = await stage.held()
    before = await stage.now_ms()
    await store.hold_back(entry_id, 1, count=0, tool="echo", at_most_ms=300)

    assert before + 300 <= await _due_ms(stage, entry_id) <= await stage.now_ms() + 300


async def test_a_call_is_looked_at_again_long_before_a_deadline_that_is_far_away(
    stage: Stage, store: StreamStore
) -> None:
    await _paused_for(stage, 3_600_000)
    entry_id = await stage.held()
    await store.hold_back(entry_id, 1, count=0, tool="echo", at_most_ms=3_600_000)

    assert await _due_ms(stage, entry_id) <= await stage.now_ms() + 36_100


async def test_a_call_whose_tool_was_resumed_meanwhile_is_due_at_once(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()

    assert await store.hold_back(entry_id, 1, count=0, tool="echo") is Parked.DUE
    assert await _due_ms(stage, entry_id) <= await stage.now_ms()


@pytest.mark.parametrize("how", LOST)
async def test_a_call_that_is_no_longer_ours_is_not_held_back(
    stage: Stage, control: ControlStore, store: StreamStore, how: str
) -> None:
    await control.pause("echo", who="ann", why="")
    entry_id = await stage.held()
    await stage.lose(entry_id, how)
    before = await stage.everything()

    assert await store.hold_back(entry_id, 1, count=0, tool="echo") is Parked.NOT_OURS
    assert await stage.everything() == before


@pytest.mark.parametrize("fields", [CALL, PAYLOAD])
async def test_a_due_call_of_a_paused_tool_waits_on_and_its_neighbours_are_taken(
    stage: Stage, control: ControlStore, store: StreamStore, fields: tuple[str, ...]
) -> None:
    await control.pause("echo", who="ann", why="")
    waiting = await stage.parked(fields=fields)
    other = await stage.parked(fields=("tool", "other"))
    unreadable = await stage.parked(fields=("payload", "{"))
    strange = await stage.parked(fields=("payload", '{"tool": ["echo"], "deadline": {}}'))

    assert await _claimed(store) == [other, unreadable, strange]
    assert (await stage.plane.pending())[waiting] == ("~parked", 1)
    assert await _due_ms(stage, waiting) > await stage.now_ms()
    assert await stage.events() == []


async def test_a_due_call_without_a_body_is_told_as_lost_while_a_tool_is_paused(
    stage: Stage, control: ControlStore, store: StreamStore
) -> None:
    await control.pause("echo", who="ann", why="")
    gone = await stage.parked()
    await stage.delete_body(gone)
    other = await stage.parked(fields=("tool", "other"))

    assert await _claimed(store) == [other]
    assert await stage.call("ZSCORE", stage.keys.parked, gone) is None


@pytest.mark.parametrize("form", ["fields", "payload"])
async def test_a_due_call_of_a_paused_tool_is_taken_once_nobody_waits_for_it(
    stage: Stage, store: StreamStore, form: str
) -> None:
    await _paused_for(stage, 3_600_000)
    now_ms = await stage.now_ms()
    ids = []
    for deadline in (now_ms - 1, now_ms + 20_000):
        fields = (*CALL, "deadline", str(deadline))
        ids.append(
            await stage.parked(
                fields=fields if form == "fields" else ("payload", json.dumps({"tool": "echo", "deadline": deadline}))
            )
        )

    assert await _claimed(store) == ids[:1]
    assert await _due_ms(stage, ids[1]) <= now_ms + 20_000


async def test_many_that_wait_do_not_stand_in_the_way_of_one_that_may_run(
    stage: Stage, control: ControlStore, store: StreamStore
) -> None:
    await control.pause("echo", who="ann", why="")
    for _ in range(250):
        await stage.parked(due_ms=1)
    other = await stage.parked(due_ms=2, fields=("tool", "other"))

    assert await _claimed(store) == [other]


@pytest.mark.parametrize("fields", [CALL, PAYLOAD])
async def test_the_parked_calls_of_a_resumed_tool_are_due(
    stage: Stage, control: ControlStore, fields: tuple[str, ...]
) -> None:
    ids = [await stage.parked(due_ms=LATER, fields=fields) for _ in range(300)]
    others = [await stage.parked(due_ms=LATER, fields=fields) for fields in OTHERS]
    deleted = await stage.parked(due_ms=LATER)
    await stage.delete_body(deleted)
    await stage.call("ZADD", stage.keys.parked, LATER, "no entry id")

    assert await control.hasten("echo") == 300
    now_ms = await stage.now_ms()
    assert max([await _due_ms(stage, one) for one in ids]) <= now_ms
    assert {await _due_ms(stage, one) for one in (*others, deleted)} == {LATER}


async def test_nothing_is_made_due_of_a_tool_that_is_paused_again(stage: Stage, control: ControlStore) -> None:
    entry_id = await stage.parked(due_ms=LATER)
    await control.pause("echo", who="ann", why="")

    assert await control.hasten("echo") == 0
    assert await _due_ms(stage, entry_id) == LATER


async def test_a_call_that_is_due_stays_so_and_counts(stage: Stage, control: ControlStore) -> None:
    entry_id = await stage.parked(due_ms=1)

    assert await control.hasten("echo") == 1
    assert await _due_ms(stage, entry_id) == 1
