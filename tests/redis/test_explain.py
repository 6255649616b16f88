"""explain: where a call is, and what happened to it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from toolspan.operate.dead_letters import discard, replay
from toolspan.operate.explain import explain
from toolspan.store import DeadLetterStore, EntryReader
from toolspan.store.steps import Burial

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.operate.explain import Explanation, Life
    from toolspan.store import Connection
    from toolspan.testing import Recorder

CALL = ("v", "1", "id", "c1", "tool", "echo", "args", '{"text":"a secret"}')
TRACE = "0af7651916cd43dd8448eb211c80319c"


async def _explain(stage: Stage, connection: Connection, asked: str, *, scan: int = 1_000) -> Explanation:
    return await explain(connection, stage.plane.settings, asked, scan=scan)


async def _life(stage: Stage, connection: Connection, asked: str) -> Life:
    [life] = (await _explain(stage, connection, asked)).lives
    return life


async def _bury(
    stage: Stage, *, reason: str = "worker_lost", fields: tuple[str | bytes, ...] = CALL
) -> tuple[str, str]:
    """Give the entry's id and the dead letter's."""
    entry_id = await stage.held(fields=fields)
    # Of one millisecond, an entry and a letter could have the same id.
    await stage.call("EVAL", _BURN, 1, stage.keys.dead_letters)
    about = ["dlq.id", entry_id, "dlq.reason", reason, "dlq.error_type", "quarantined", "dlq.error_message", "why"]
    about += ["dlq.consumer", "me", "dlq.fingerprint", "f", "dlq.traceparent", f"00-{TRACE}-b7ad6b7169203331-01"]
    await stage.store().quarantine(Burial(entry_id, 1, reason, "worker_lost", about))
    [[letter_id, _]] = await stage.call("XREVRANGE", stage.keys.dead_letters, "+", "-", "COUNT", 1)
    return entry_id, letter_id.decode()


async def _registers(stage: Stage, name: str, *, ago_ms: int = 0) -> None:
    await stage.call("HSET", stage.keys.worker(name), *(
        "host", "h", "pid", 7, "version", "1", "protocol", 1, "lease", 1_000, "start", 5, "concurrency", 9,
        "tools", '{"echo":"d1"}',
    ))  # fmt: skip
    await stage.call("PEXPIRE", stage.keys.worker(name), 60_000)
    await stage.beats(name, ago_ms=ago_ms)


async def test_a_waiting_call_is_told_with_who_serves_it(stage: Stage, connection: Connection) -> None:
    now_ms = await stage.now_ms()
    more = ("principal", "ada", "deadline", str(now_ms + 60_000), "traceparent", f"00-{TRACE}-b7ad6b7169203331-01")
    entry_id = await stage.plane.add(*CALL, *more)
    await _registers(stage, "w")
    await _registers(stage, "silent", ago_ms=2_000)
    before = await stage.everything()
    life = await _life(stage, connection, entry_id)

    assert (life.place, life.entry_id, life.call_id, life.tool) == ("waiting", entry_id, "c1", "echo")
    assert (life.principal, life.trace_id, life.held_by, life.attempts, life.steps) == ("ada", TRACE, None, [], [])
    assert life.note == "live workers that serve its tool: 1"
    assert life.deadline_left is not None
    assert 50 < life.deadline_left <= 60
    assert "secret" not in repr(life)
    assert await stage.everything() == before


async def test_what_bears_an_id_twice_is_found_once(stage: Stage, connection: Connection) -> None:
    # Entries and letters can have the same id.
    await stage.call("XADD", stage.keys.audit, "*", "dead_letter", "1-1", "dlq.id", "1-1")

    assert await EntryReader(connection, stage.keys).audits_of("1-1") == [{"dead_letter": "1-1", "dlq.id": "1-1"}]


async def test_calls_wait_where_there_is_no_group_yet(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.plane.add(*CALL)
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)

    assert (await _life(stage, connection, entry_id)).place == "waiting"


@pytest.mark.parametrize("how", ["acknowledged by hand", "made anew behind it"])
async def test_a_call_that_nobody_will_be_given_is_told_as_that(stage: Stage, connection: Connection, how: str) -> None:
    entry_id = await stage.held(fields=CALL)
    await stage.pass_by(entry_id, how)
    life = await _life(stage, connection, "c1")

    assert (life.place, life.next) == ("passed_by", [])


@pytest.mark.parametrize(
    ("ago_ms", "note"),
    [
        (0, "its worker is live"),
        (2_000, "its worker is silent: a live one claims"),
        (None, "no worker is registered under that name"),
    ],
)
async def test_a_call_in_flight_is_told_with_whom_and_since_when(
    stage: Stage, connection: Connection, ago_ms: int | None, note: str
) -> None:
    entry_id = await stage.held("w", attempt=2, idle_ms=5_000, fields=CALL)
    now_ms = await stage.now_ms()
    await stage.note(
        entry_id,
        {"consumer": "v", "attempt": 1, "start": now_ms - 90_000, "end": now_ms - 60_000, "error": "worker_lost"},
        {"consumer": "w", "attempt": 2, "start": now_ms - 30_000},
    )
    if ago_ms is not None:
        await _registers(stage, "w", ago_ms=ago_ms)
    life = await _life(stage, connection, entry_id)
    first, second = life.attempts

    assert (life.place, life.held_by, life.attempt) == ("in_flight", "w", 2)
    assert life.note.startswith(note)
    assert life.idle is not None
    assert 5 <= life.idle < 15
    assert (first.attempt, first.consumer, first.error) == (1, "v", "worker_lost")
    assert first.ended is not None
    assert (90 <= first.began < 100, 60 <= first.ended < 70, 30 <= second.began < 40) == (True, True, True)
    assert (second.ended, second.error) == (None, None)


@pytest.mark.parametrize(("reason", "event"), [("released", "released"), ("tool_error", "retried")])
async def test_a_parked_call_is_told_with_when_it_is_due_and_why(
    stage: Stage, connection: Connection, reason: str, event: str
) -> None:
    entry_id = await stage.held(fields=CALL)
    await stage.store().park(entry_id, 1, count=1, delay_ms=60_000, reason=reason)
    life = await _life(stage, connection, entry_id)
    [step] = life.steps

    assert (life.place, life.reason, step.event, step.consumer, step.attempt) == ("parked", reason, event, "me", "1")
    assert life.due is not None
    assert 50 < life.due <= 60
    assert step.ago is not None
    assert 0 <= step.ago < 10


async def test_a_call_that_is_parked_without_a_due_time_has_none(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.held("~parked", fields=CALL)
    await stage.note(entry_id, {"consumer": "w", "attempt": 1, "start": 1, "end": 2, "error": "timeout"})
    life = await _life(stage, connection, entry_id)

    assert (life.place, life.due, life.reason) == ("parked", None, "timeout")


async def test_a_call_whose_body_is_deleted_is_told_with_who_holds_it(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.held("w")
    await stage.delete_body(entry_id)
    life = await _life(stage, connection, entry_id)

    assert (life.place, life.held_by, life.call_id) == ("deleted", "w", None)


@pytest.mark.parametrize(
    ("reason", "replays"),
    [
        ("worker_lost", ""),
        ("outcome_unknown", " --did-not-run"),
        ("reply_failed", " --run-again"),
        ("malformed", None),
    ],
)
async def test_a_dead_letter_is_found_by_any_of_its_ids_with_what_can_be_done(
    stage: Stage, connection: Connection, reason: str, replays: str | None
) -> None:
    entry_id, letter_id = await _bury(stage, reason=reason)
    lives = [await _life(stage, connection, asked) for asked in (letter_id, entry_id, "c1")]
    [attempt] = lives[0].attempts

    assert {(life.place, life.entry_id, life.dead_letter, life.reason) for life in lives} == {
        ("dead_letter", entry_id, letter_id, reason)
    }  # fmt: skip
    assert {(life.call_id, life.trace_id, life.note) for life in lives} == {("c1", TRACE, "quarantined: why")}
    assert [step.event for step in lives[0].steps] == ["quarantined"]
    assert (attempt.consumer, attempt.error) == ("me", "worker_lost")
    replaying = [] if replays is None else [f"toolspan dlq replay {letter_id}{replays}"]
    assert lives[0].next == [
        f"toolspan dlq show {letter_id}", *replaying, f'toolspan dlq discard {letter_id} --why "…"',
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [
    CALL,
    ("payload", '{"id":"c1","tool":"echo","args":{}}'),
    (*CALL[:3], "another", *CALL[4:], "attempt_of", "c1"),
    (*CALL[:3], "another", *CALL[4:], "replay_of", "c1"),
])  # fmt: skip
async def test_a_call_is_found_by_its_call_id_and_as_what_it_repeats(
    stage: Stage, connection: Connection, fields: tuple[str, ...]
) -> None:
    await stage.plane.add("v", "1", "id", "c2", "tool", "echo", "args", '{"text":"c1"}')
    await stage.plane.add("payload", '{"id":"c3","tool":"echo","args":{"text":"c1"}}')
    entry_id = await stage.plane.add(*fields)

    assert (await _life(stage, connection, "c1")).entry_id == entry_id


@pytest.mark.parametrize("call_id", ["é語", 'a"b\\c', "ünï\x1b"])
async def test_a_call_id_is_found_however_a_payload_spells_it(
    stage: Stage, connection: Connection, call_id: str
) -> None:
    for ascii_only in (True, False):
        payload = {"id": call_id, "tool": "echo", "args": {}}
        await stage.plane.add("payload", json.dumps(payload, ensure_ascii=ascii_only))

    assert len((await _explain(stage, connection, call_id)).lives) == 2


async def test_a_dead_letter_that_was_kept_whole_is_found_by_its_call_id(stage: Stage, connection: Connection) -> None:
    _, letter_id = await _bury(stage, fields=(*CALL, *(part for n in range(600) for part in (f"x{n}", "y"))))

    assert (await _life(stage, connection, "c1")).dead_letter == letter_id


async def test_a_replay_is_found_by_its_letter_and_the_audit_tells_what_became_of_it(
    stage: Stage, connection: Connection, recorder: Recorder
) -> None:
    _, letter_id = await _bury(stage)
    letters = DeadLetterStore(connection, stage.keys)
    letter = await letters.one(letter_id)
    assert letter is not None
    call_id, entry_id = await replay(letters, letter, recorder.probe, codec=stage.plane.codec, who="ada")
    waiting = await _life(stage, connection, letter_id)
    await stage.delete_body(entry_id)
    by_letter, by_call = [await _life(stage, connection, asked) for asked in (letter_id, call_id)]
    await stage.call("DEL", stage.keys.audit)
    without_audit = await _life(stage, connection, letter_id)

    assert (waiting.place, waiting.entry_id, waiting.call_id, waiting.replay_of) == (
        "waiting", entry_id, call_id, letter_id,
    )  # fmt: skip
    assert by_letter.place == by_call.place == "gone"
    assert by_letter.note == f"this dead letter was replayed by ada as call {call_id}, entry {entry_id}"
    assert by_letter.next == [f"toolspan explain {entry_id}"]
    assert without_audit.note == "this dead letter was replayed by ada"
    assert (by_call.entry_id, by_call.note) == (entry_id, "it was settled after these steps, or deleted")
    assert [(step.event, step.reason) for step in by_call.steps] == [("replayed", letter_id)]


async def test_a_discarded_dead_letter_is_told_with_who_did_it_and_why(
    stage: Stage, connection: Connection, recorder: Recorder
) -> None:
    entry_id, letter_id = await _bury(stage)
    letters = DeadLetterStore(connection, stage.keys)
    letter = await letters.one(letter_id)
    assert letter is not None
    await discard(letters, letter, recorder.probe, who="ada", why="a test")
    by_letter, by_entry = [await _life(stage, connection, asked) for asked in (letter_id, entry_id)]

    assert by_letter.note == "this dead letter was ended by ada (discard): a test"
    assert by_entry.note == by_letter.note


async def test_of_a_call_that_is_gone_its_exceptional_steps_are_left(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.held("gone", idle_ms=5_000, fields=CALL)
    await stage.store().claim("gone", lease_ms=1_000, count=1, suspects=1, max_attempts=4)
    await stage.lose(entry_id, "settled")
    await stage.call("HDEL", stage.keys.attempts, entry_id)
    life = await _life(stage, connection, entry_id)

    assert (life.place, life.note) == ("gone", "it was settled after these steps, or deleted")
    assert [(step.event, step.reason, step.consumer) for step in life.steps] == [("reclaimed", "worker_lost", "gone")]


async def test_a_step_of_many_entries_is_told_of_each_of_them_and_of_no_other(
    stage: Stage, connection: Connection
) -> None:
    # The first id stands in the third, and in the step of the other two.
    ids = [f"9000000000000-{number}" for number in (1, 5, 11)]
    for entry_id in ids:
        await stage.call("XADD", stage.keys.calls, entry_id, *CALL)
    await stage.hold_all(ids[1:], "gone", idle_ms=5_000)
    await stage.store().claim("gone", lease_ms=1_000, count=10, suspects=1, max_attempts=4)

    reader = EntryReader(connection, stage.keys)
    told = {entry_id: [step["event"] for step in await reader.events_of(entry_id)] for entry_id in ids}
    assert told == {ids[0]: [], ids[1]: ["reclaimed"], ids[2]: ["reclaimed"]}


async def test_a_lost_call_is_told_as_lost(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.held("gone", idle_ms=5_000, fields=CALL)
    await stage.delete_body(entry_id)
    await stage.store().claim("gone", lease_ms=1_000, count=1, suspects=1, max_attempts=4)

    assert (await _life(stage, connection, entry_id)).note.endswith("it is lost")


@pytest.mark.parametrize("asked", ["1-1", "no such call", "", "\udce9", "99999999999999999999-0"])
async def test_nothing_is_told_of_what_redis_does_not_know(stage: Stage, connection: Connection, asked: str) -> None:
    await stage.plane.add(*CALL)
    await _bury(stage)

    assert (await _explain(stage, connection, asked)).lives == []


@pytest.mark.parametrize(("scan", "found", "bounded"), [(250, 0, True), (251, 1, False), (1_000, 1, False)])
async def test_a_search_ends_at_its_bound_and_says_so(
    stage: Stage, connection: Connection, scan: int, found: int, bounded: bool
) -> None:
    await stage.plane.add(*CALL)
    for number in range(250):
        await stage.plane.add("v", "1", "id", f"x{number}", "tool", "echo", "args", "{}")
    explanation = await _explain(stage, connection, "c1", scan=scan)

    assert (len(explanation.lives), explanation.looked_at) == (found, min(scan, 251))
    assert explanation.bounded == bounded or scan == 251


async def test_what_cannot_be_decoded_is_told_with_why(stage: Stage, connection: Connection) -> None:
    entry_id = await stage.plane.add("v", "1", "id", "c1", "tool", "echo", "args", "no json")
    newer = await stage.plane.add("v", "2", "id", "c2", "tool", "echo")
    life = await _life(stage, connection, "c1")

    assert (life.entry_id, life.tool) == (entry_id, "echo")
    assert "no worker can decode it: " in life.note
    assert "it is of version 2" in (await _life(stage, connection, newer)).note


async def test_what_is_no_dead_letter_of_ours_hides_nothing(stage: Stage, connection: Connection) -> None:
    await stage.call("XADD", stage.keys.dead_letters, "1-0", "id", "c1")
    entry_id = await stage.plane.add(*CALL)

    assert (await _life(stage, connection, "c1")).entry_id == entry_id
    assert (await _explain(stage, connection, "1-0")).lives == []


_BURN = "for _ = 1, 10 do redis.call('XDEL', KEYS[1], redis.call('XADD', KEYS[1], '*', 'a', 'b')) end"
