"""claim: taking over what another worker has not renewed for a lease, and beginning what need not wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.redis.stage import CALL
from toolspan.store import Channels

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection, StreamStore
    from toolspan.store.steps import Claims

LEASE_MS = 30_000
IDLE_MS = 60_000
MAX_ATTEMPTS = 4


async def _claim(store: StreamStore, *, count: int = 10, suspects: int = 1, after: str | None = None) -> Claims:
    return await store.claim(
        "gone", lease_ms=LEASE_MS, count=count, suspects=suspects, max_attempts=MAX_ATTEMPTS, after=after
    )


def _lost(attempt: int, error: str = "worker_lost") -> dict[str, Any]:
    return {"consumer": "old", "attempt": attempt, "start": attempt, "end": attempt + 1, "error": error}


async def test_an_orphan_is_taken_over_and_begun(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=2, idle_ms=IDLE_MS)
    before = await stage.now_ms()
    [claim] = (await _claim(store)).claimed
    after = await stage.now_ms()

    assert await stage.plane.pending() == {entry_id: ("me", 3)}
    assert await stage.idle_ms(entry_id) < LEASE_MS
    running = (await stage.attempts(entry_id))[-1]
    assert before <= running.pop("start") <= after
    assert running == {"consumer": "me", "attempt": 3}
    delivery = claim.delivery
    assert (delivery.entry_id, delivery.attempt, delivery.counted, claim.begun) == (entry_id, 3, True, True)
    assert claim.given_up is False
    assert (delivery.origin, delivery.owner, delivery.losses) == ("reclaim", "gone", 1)


@pytest.mark.parametrize("why", ["suspect", "marked", "attempts used up"])
async def test_what_has_to_wait_or_will_not_be_run_is_taken_over_without_being_begun(
    stage: Stage, store: StreamStore, why: str
) -> None:
    attempt = MAX_ATTEMPTS if why == "attempts used up" else 2
    entry_id = await (_suspect(stage) if why == "suspect" else stage.held("gone", attempt=attempt, idle_ms=IDLE_MS))
    if why == "marked":
        await stage.mark(entry_id)
    ordinary = await stage.held("gone", idle_ms=IDLE_MS)
    [claim, other] = (await _claim(store)).claimed

    assert await stage.plane.pending() == {entry_id: ("me", attempt), ordinary: ("me", 2)}
    assert (claim.delivery.attempt, claim.delivery.counted, claim.begun) == (attempt, False, False)
    assert other.begun
    assert [one["consumer"] for one in await stage.attempts(entry_id) if "end" not in one] == []


async def test_the_last_attempt_that_is_left_is_begun(stage: Stage, store: StreamStore) -> None:
    await stage.held("gone", attempt=MAX_ATTEMPTS - 1, idle_ms=IDLE_MS)

    [claim] = (await _claim(store)).claimed

    assert (claim.delivery.attempt, claim.begun) == (MAX_ATTEMPTS, True)


async def test_those_that_others_lie_between_come_whole(stage: Stage, store: StreamStore) -> None:
    ids = []
    for number in range(4):
        ids.append(await stage.held("gone", idle_ms=IDLE_MS, fields=("number", f"{number}")))
        for _ in range(number):
            await stage.held("other", fields=("another", "call"))

    claims = (await _claim(store)).claimed

    assert [claim.delivery.entry_id for claim in claims] == ids
    assert [claim.delivery.fields for claim in claims] == [[b"number", b"%d" % number] for number in range(4)]


async def test_the_one_attempt_before_the_lost_one_is_told_with_it(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=2, idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1, "tool_error"))
    [claim] = (await _claim(store)).claimed

    assert [(one.consumer, one.error) for one in claim.delivery.history] == [
        ("old", "tool_error"), ("gone", "worker_lost"),
    ]  # fmt: skip


async def test_attempts_before_the_lost_one_are_told_with_it(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=3, idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1), _lost(2, "tool_error"), {"consumer": "gone", "attempt": 3, "start": 9})
    [claim] = (await _claim(store, suspects=1)).claimed

    history = claim.delivery.history
    assert [(one.consumer, one.attempt, one.start_ms) for one in history] == [
        ("old", 1, 1),
        ("old", 2, 2),
        ("gone", 3, 9),
    ]
    assert [one.error for one in history] == ["worker_lost", "tool_error", "worker_lost"]
    assert history[-1].end_ms == claim.delivery.ready_ms


async def test_its_body_comes_byte_for_byte(stage: Stage, store: StreamStore) -> None:
    await stage.held("gone", idle_ms=IDLE_MS, fields=(b"\xff", b"\x00", "again", "1", "again", "2"))

    [claim] = (await _claim(store)).claimed

    assert claim.delivery.fields == [b"\xff", b"\x00", b"again", b"1", b"again", b"2"]


async def test_it_could_have_run_since_it_was_found_lost(stage: Stage, store: StreamStore) -> None:
    await stage.held("gone", idle_ms=IDLE_MS)
    before = await stage.now_ms()

    [claim] = (await _claim(store)).claimed

    assert before <= claim.delivery.ready_ms <= await stage.now_ms()


async def test_the_attempt_of_a_silent_worker_ended_with_the_worker(stage: Stage, store: StreamStore) -> None:
    before = await stage.now_ms()
    entry_id = await stage.held("gone", idle_ms=IDLE_MS)
    await stage.beats("gone", ago_ms=LEASE_MS + 1_000)
    [claim] = (await _claim(store)).claimed
    after = await stage.now_ms()

    attempt, _ = await stage.attempts(entry_id)
    assert before - IDLE_MS - 1 <= attempt.pop("start") <= after - IDLE_MS + 1_000
    assert before <= attempt.pop("end") <= after
    assert attempt == {"consumer": "gone", "attempt": 1, "error": "worker_lost"}
    assert claim.delivery.loss == "worker_lost"
    assert claim.delivery.previous is not None
    assert claim.delivery.previous.error == "worker_lost"


async def test_a_worker_that_never_beat_is_lost(stage: Stage, store: StreamStore) -> None:
    await stage.held("gone", idle_ms=IDLE_MS)

    [claim] = (await _claim(store)).claimed

    assert claim.delivery.loss == "worker_lost"


async def test_a_worker_that_beats_has_let_its_lease_expire(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", idle_ms=IDLE_MS)
    await stage.beats("gone", ago_ms=LEASE_MS - 10_000)

    [claim] = (await _claim(store)).claimed

    assert claim.delivery.loss == "lease_expired"
    assert (await stage.attempts(entry_id))[0]["error"] == "lease_expired"


async def test_the_attempt_on_record_is_the_one_that_ends(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=2, idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1), {"consumer": "gone", "attempt": 2, "start": 5})
    await _claim(store)

    kept, ended = await stage.attempts(entry_id)
    assert kept == _lost(1)
    assert (ended["start"], ended["error"]) == (5, "worker_lost")


async def test_an_attempt_that_ended_before_stays_as_it_is(stage: Stage, store: StreamStore) -> None:
    # Claimed after a retry, by a worker that died before it began the next attempt.
    entry_id = await stage.held("gone", attempt=1, idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1, "tool_error"))

    [claim] = (await _claim(store)).claimed

    ended, begun = await stage.attempts(entry_id)
    assert (ended, begun["consumer"]) == (_lost(1, "tool_error"), "me")
    assert [one.error for one in claim.delivery.history] == ["tool_error"]
    assert claim.delivery.losses == 0


async def test_what_was_given_back_and_not_begun_since_has_no_attempt_to_lose(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=0, idle_ms=IDLE_MS)

    [claim] = (await _claim(store)).claimed

    [begun] = await stage.attempts(entry_id)
    assert (begun["consumer"], begun["attempt"]) == ("me", 1)
    assert (claim.delivery.losses, claim.delivery.previous) == (0, None)


async def test_what_was_given_back_behind_an_attempt_and_not_begun_since_has_none_to_lose_either(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held("gone", attempt=1, idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1), _lost(2, "released"))

    [claim] = (await _claim(store)).claimed

    *ended, begun = await stage.attempts(entry_id)
    assert ended == [_lost(1), _lost(2, "released")]
    assert (begun["consumer"], begun["attempt"]) == ("me", 2)
    assert claim.delivery.losses == 1


async def test_losses_of_worker_and_lease_are_counted_and_nothing_else(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=4, idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1, "lease_expired"), _lost(2, "tool_error"), _lost(3, "released"))

    [claim] = (await _claim(store)).claimed

    assert claim.delivery.losses == 2


async def test_what_was_taken_over_can_be_explained_later(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=2, idle_ms=IDLE_MS)
    await _claim(store)

    assert await stage.events() == [
        {"event": "reclaimed", "entry": entry_id, "consumer": "gone", "attempt": "2", "reason": "worker_lost"}
    ]


async def test_what_is_taken_over_together_is_one_step_for_all_that_had_as_many_attempts(
    stage: Stage, store: StreamStore
) -> None:
    first, second, third = [
        await stage.held("gone", attempt=attempt, idle_ms=IDLE_MS, fields=CALL) for attempt in (1, 2, 1)
    ]
    await _claim(store)

    events = {event["attempt"]: event["entry"] for event in await stage.events()}
    assert events == {"1": f"{first} {third}", "2": second}


async def test_it_is_told_of_each_whether_it_was_given_up_where_it_says_its_id(
    stage: Stage, store: StreamStore
) -> None:
    ids = []
    for number in range(3):
        fields = ("v", "1", "id", f"call {number}", "tool", "echo", "args", "{}")
        ids.append(await stage.held("gone", idle_ms=IDLE_MS, fields=fields))
    payload = await stage.held("gone", idle_ms=IDLE_MS, fields=("payload", '{"id": "call 1", "tool": "echo"}'))
    await stage.call("SET", stage.keys.cancel("call 1"), "1", "PX", 60_000)

    claims = await _claim(store)

    given_up = {claim.delivery.entry_id: claim.given_up for claim in claims.claimed}
    assert given_up == {ids[0]: False, ids[1]: True, ids[2]: False, payload: None}


async def test_what_was_handed_out_together_is_still_judged_by_what_is_on_record_of_each(
    stage: Stage, store: StreamStore
) -> None:
    marked, bare, noted, *others = ids = [await stage.plane.add(*CALL) for _ in range(5)]
    await stage.hold_all(ids, "gone", attempt=2, idle_ms=IDLE_MS)
    for entry_id in (marked, others[1]):
        await stage.mark(entry_id)
    await stage.note(noted, _lost(1))

    claims = {claim.delivery.entry_id: claim for claim in (await _claim(store)).claimed}

    begun = {entry_id: (claim.begun, claim.delivery.losses) for entry_id, claim in claims.items()}
    assert begun == {
        marked: (False, 1), bare: (True, 1), noted: (False, 2), others[0]: (True, 1), others[1]: (False, 1),
    }  # fmt: skip
    on_record = {entry_id: [one["consumer"] for one in await stage.attempts(entry_id)] for entry_id in ids}
    assert on_record == {
        marked: ["gone"], bare: ["gone", "me"], noted: ["old", "gone"], others[0]: ["gone", "me"], others[1]: ["gone"],
    }  # fmt: skip


async def test_of_one_that_is_not_run_again_and_had_ended_nothing_more_is_written(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held("gone", attempt=2, idle_ms=IDLE_MS)
    await stage.mark(entry_id)
    ended = [_lost(1), _lost(2, "tool_error")]
    await stage.note(entry_id, *ended)

    [claim] = (await _claim(store)).claimed

    assert (claim.marked, claim.begun) == (True, False)
    assert await stage.attempts(entry_id) == ended


async def test_a_mark_is_told(stage: Stage, store: StreamStore) -> None:
    marked, plain = [await stage.held("gone", idle_ms=IDLE_MS) for _ in range(2)]
    await stage.mark(marked)

    claims = await _claim(store)

    assert {claim.delivery.entry_id: claim.marked for claim in claims.claimed} == {marked: True, plain: False}


@pytest.mark.parametrize("how", ["renewed", "another owner", "settled", "parked"])
async def test_what_is_no_orphan_is_left_alone(stage: Stage, store: StreamStore, how: str) -> None:
    if how == "renewed":
        await stage.held("gone", idle_ms=LEASE_MS - 10_000)
    elif how == "another owner":
        await stage.held("other", idle_ms=IDLE_MS)
    elif how == "parked":
        await stage.held("~parked", idle_ms=IDLE_MS)
    else:
        await stage.lose(await stage.held("gone", idle_ms=IDLE_MS), how)
    before = await stage.everything()
    claims = await _claim(store)

    assert (claims.claimed, claims.gone, claims.more) == ([], [], None)
    assert await stage.everything() == before


async def test_no_more_is_taken_than_there_is_room_for(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held("gone", idle_ms=IDLE_MS) for _ in range(5)]

    claims = await _claim(store, count=2)

    assert [claim.delivery.entry_id for claim in claims.claimed] == ids[:2]
    assert claims.more == ids[1]
    assert list((await stage.plane.pending("gone")).keys()) == ids[2:]


async def test_the_next_claim_goes_on_where_the_last_one_ended(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held("gone", idle_ms=IDLE_MS) for _ in range(3)]

    claims = await _claim(store, after=ids[0])

    assert [claim.delivery.entry_id for claim in claims.claimed] == ids[1:]
    assert claims.more is None


async def test_a_call_without_a_body_is_acknowledged_and_told_as_lost(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held("gone", attempt=2, idle_ms=IDLE_MS)
    neighbour = await stage.held("gone", idle_ms=IDLE_MS)
    await stage.note(entry_id, _lost(1))
    await stage.mark(entry_id)
    await stage.delete_body(entry_id)

    claims = await _claim(store)

    assert claims.gone == [(entry_id, 2)]
    assert [claim.delivery.entry_id for claim in claims.claimed] == [neighbour]
    assert await stage.plane.pending() == {neighbour: ("me", 2)}
    assert set(await stage.fields(stage.keys.attempts)) == {neighbour}
    assert (await stage.events())[0] == {
        "event": "lost", "entry": entry_id, "consumer": "gone", "attempt": "2", "reason": "deleted",
    }  # fmt: skip


async def _suspect(stage: Stage, *, attempt: int = 2) -> str:
    """An orphan that has lost *attempt* workers, this one included."""
    entry_id = await stage.held("gone", attempt=attempt, idle_ms=IDLE_MS, fields=CALL)
    await stage.note(entry_id, *(_lost(number) for number in range(1, attempt)))
    return entry_id


async def test_suspects_are_taken_one_at_a_time_and_ordinary_calls_beside_them(
    stage: Stage, store: StreamStore
) -> None:
    first, second = [await _suspect(stage) for _ in range(2)]
    ordinary = await stage.held("gone", idle_ms=IDLE_MS)

    claims = await _claim(store, suspects=1)

    assert [claim.delivery.entry_id for claim in claims.claimed] == [first, ordinary]
    assert await stage.plane.pending("gone") == {second: ("gone", 2)}


async def test_an_ordinary_call_does_not_take_the_suspects_place(stage: Stage, store: StreamStore) -> None:
    ordinary = await stage.held("gone", idle_ms=IDLE_MS)
    suspect = await _suspect(stage)

    claims = await _claim(store, suspects=1)

    assert [claim.delivery.entry_id for claim in claims.claimed] == [ordinary, suspect]


async def test_a_suspect_that_is_not_taken_stays_as_it_was(stage: Stage, store: StreamStore) -> None:
    await _suspect(stage)
    before = await stage.everything()
    claims = await _claim(store, suspects=0)

    assert claims.claimed == []
    assert await stage.everything() == before


@pytest.mark.parametrize("why", ["marked", "attempts used up"])
async def test_what_will_not_be_run_is_no_suspect(stage: Stage, store: StreamStore, why: str) -> None:
    if why == "marked":
        entry_id = await _suspect(stage)
        await stage.mark(entry_id)
    else:
        entry_id = await _suspect(stage, attempt=MAX_ATTEMPTS)

    claims = await _claim(store, suspects=0)

    assert [claim.delivery.entry_id for claim in claims.claimed] == [entry_id]


@pytest.mark.parametrize(
    ("found", "count", "calls"), [("ooo", 2, True), ("ooo", 3, True), ("ooo", 4, False), ("oss", 3, False)]
)
async def test_who_takes_all_he_asked_for_calls_the_others(
    stage: Stage, connection: Connection, found: str, count: int, calls: bool
) -> None:
    """Nobody calls who has to leave suspects behind: those who can take them no more than he would call him back."""
    store = stage.store()
    for kind in found:
        await (_suspect(stage) if kind == "s" else stage.held("gone", idle_ms=IDLE_MS))
    channels = Channels(connection)
    await channels.open()
    await channels.subscribe([stage.keys.workers])
    await channels.next()

    await _claim(store, count=count)
    await stage.call("PUBLISH", stage.keys.workers, "that was all")
    heard = await channels.next()
    await channels.close()

    assert heard is not None
    assert heard.message == (b"orphans" if calls else b"that was all")


async def test_it_is_told_once_for_each_owner(stage: Stage, store: StreamStore, connection: Connection) -> None:
    for _ in range(4):
        await stage.held("gone", idle_ms=IDLE_MS)
    first = await _claim(store, count=2)
    channels = Channels(connection)
    await channels.open()
    await channels.subscribe([stage.keys.workers])
    await channels.next()

    await _claim(store, count=2, after=first.more)
    await stage.call("PUBLISH", stage.keys.workers, "that was all")
    heard = await channels.next()
    await channels.close()

    assert heard is not None
    assert heard.message == b"that was all"
