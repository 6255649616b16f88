"""park: a retry, which counts, and a release, which does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.redis.stage import LOST
from toolspan.errors import WrongTypeError

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

DELAY_MS = 30_000


async def _retry(store: StreamStore, entry_id: str, attempt: int = 1) -> bool:
    return await store.park(entry_id, attempt, count=attempt, delay_ms=DELAY_MS, reason="tool_error")


async def _release(store: StreamStore, entry_id: str, attempt: int = 1) -> bool:
    return await store.park(entry_id, attempt, count=attempt - 1, delay_ms=DELAY_MS, reason="released")


async def test_a_retry_waits_for_its_time_with_its_attempt_counted(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=2, idle_ms=60_000)
    before = await stage.now_ms()
    assert await _retry(store, entry_id, 2)
    after = await stage.now_ms()

    assert await stage.plane.pending() == {entry_id: ("~parked", 2)}
    assert await stage.idle_ms(entry_id) < 30_000
    due_ms = int(await stage.call("ZSCORE", stage.keys.parked, entry_id))
    assert before + DELAY_MS <= due_ms <= after + DELAY_MS


async def test_a_retry_ends_an_attempt_that_was_not_on_record(stage: Stage, store: StreamStore) -> None:
    before = await stage.now_ms()
    entry_id = await stage.held(idle_ms=60_000)
    await _retry(store, entry_id)
    after = await stage.now_ms()

    [attempt] = await stage.attempts(entry_id)
    assert before - 60_001 <= attempt.pop("start") <= after - 59_000
    assert before <= attempt.pop("end") <= after
    assert attempt == {"consumer": "me", "attempt": 1, "error": "tool_error"}


async def test_a_retry_ends_the_attempt_that_is_on_record(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=2)
    first = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}
    await stage.note(entry_id, first, {"consumer": "me", "attempt": 2, "start": 3})
    await _retry(store, entry_id, 2)

    kept, ended = await stage.attempts(entry_id)
    assert kept == first
    assert (ended["start"], ended["error"]) == (3, "tool_error")
    assert ended["end"] > 3


async def test_a_release_gives_the_attempt_back(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()

    assert await _release(store, entry_id)
    assert await stage.plane.pending() == {entry_id: ("~parked", 0)}
    assert await stage.call("ZCARD", stage.keys.parked) == 1


async def test_what_was_given_back_before_it_began_was_no_attempt(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    earlier = await stage.held(attempt=2)
    lost = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}
    await stage.note(earlier, lost)
    await _release(store, entry_id)
    await _release(store, earlier, 2)

    assert await stage.fields(stage.keys.attempts) != {}
    assert await stage.attempts(entry_id) == []
    assert await stage.attempts(earlier) == [lost]


async def test_the_attempt_of_another_worker_is_not_ended_by_a_release(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=1)
    theirs = {"consumer": "other", "attempt": 1, "start": 1, "end": 2, "error": "released"}
    await stage.note(entry_id, theirs)
    await _release(store, entry_id)

    assert await stage.attempts(entry_id) == [theirs]


@pytest.mark.parametrize("reason", ["released", "not_admitted"])
@pytest.mark.parametrize(
    "last",
    [
        {"consumer": "me", "attempt": 2, "start": 3, "end": 4, "error": "released"},
        {"consumer": "me", "attempt": 1, "start": 3},
        {"consumer": "other", "attempt": 2, "start": 3},
    ],
)
async def test_what_is_given_back_ends_no_attempt_but_the_one_that_runs(
    stage: Stage, store: StreamStore, last: dict[str, Any], reason: str
) -> None:
    """Not one that has ended, nor another of ours, nor one of another worker; whatever was lost before it."""
    entry_id = await stage.held(attempt=2)
    lost = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}
    await stage.note(entry_id, lost, last)
    assert await store.park(entry_id, 2, count=1, delay_ms=DELAY_MS, reason=reason)

    assert await stage.attempts(entry_id) == [lost, last]


async def test_what_was_not_admitted_leaves_no_trace(stage: Stage, store: StreamStore) -> None:
    entry_id, begun, retried = [await stage.held(attempt=attempt) for attempt in (1, 1, 2)]
    lost = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "tool_error"}
    await stage.note(begun, {"consumer": "me", "attempt": 1, "start": 1})
    await stage.note(retried, lost, {"consumer": "me", "attempt": 2, "start": 3})
    for held, attempt in ((entry_id, 1), (begun, 1), (retried, 2)):
        assert await store.park(held, attempt, count=attempt - 1, delay_ms=DELAY_MS, reason="not_admitted")

    assert await stage.plane.pending() == {entry_id: ("~parked", 0), begun: ("~parked", 0), retried: ("~parked", 1)}
    assert await stage.attempts(retried) == [lost]
    assert (await stage.fields(stage.keys.attempts)).keys() == {retried}
    assert await stage.events() == []


@pytest.mark.parametrize("error", ["worker_lost", "lease_expired"])
async def test_behind_an_attempt_that_was_lost_it_stays_on_record_once(
    stage: Stage, store: StreamStore, error: str
) -> None:
    # Whoever began it has told of the loss: the next one must not tell of it again.
    lost = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": error}
    entry_id = await stage.held(attempt=2)
    await stage.note(entry_id, lost, {"consumer": "me", "attempt": 2, "start": 3})
    for _ in range(2):
        assert await store.park(entry_id, 2, count=1, delay_ms=DELAY_MS, reason="not_admitted")
        first, *later = await stage.attempts(entry_id)
        assert first == lost
        assert [(one["attempt"], one["error"]) for one in later] == [(2, "released")]
        await stage.hold(entry_id, "me", attempt=2)
        await stage.note(entry_id, first, *later, {"consumer": "me", "attempt": 2, "start": 5})

    assert await stage.events() == []


async def test_an_attempt_of_another_worker_is_on_record_still_when_we_were_not_admitted(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held()
    theirs = {"consumer": "other", "attempt": 1, "start": 1}
    await stage.note(entry_id, theirs)
    await store.park(entry_id, 1, count=0, delay_ms=DELAY_MS, reason="not_admitted")

    assert await stage.attempts(entry_id) == [theirs]


async def test_an_attempt_on_record_ends_with_its_release(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.note(entry_id, {"consumer": "me", "attempt": 1, "start": 1})
    await _release(store, entry_id)

    [attempt] = await stage.attempts(entry_id)
    assert attempt["error"] == "released"
    assert attempt["end"] > 1


async def test_what_is_parked_can_be_explained_later(stage: Stage, store: StreamStore) -> None:
    retried, released = [await stage.held() for _ in range(2)]
    await _retry(store, retried)
    await _release(store, released)

    by = {"consumer": "me", "attempt": "1"}
    assert await stage.events() == [
        {"event": "retried", "entry": retried, "reason": "tool_error", **by},
        {"event": "released", "entry": released, "reason": "released", **by},
    ]


async def test_events_that_cannot_be_written_keep_nothing_from_being_parked(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.events, "not a stream")

    assert await _retry(store, entry_id)
    assert await stage.plane.pending() == {entry_id: ("~parked", 1)}


async def test_the_events_are_capped(stage: Stage, store: StreamStore) -> None:
    await stage.call("EVAL", _FILL, 1, stage.keys.events)
    await _retry(store, await stage.held())

    assert await stage.call("XLEN", stage.keys.events) <= 10_100


@pytest.mark.parametrize("how", [*LOST, "body deleted"])
async def test_what_is_no_longer_ours_is_not_parked(stage: Stage, store: StreamStore, how: str) -> None:
    entry_id = await stage.held()
    if how == "body deleted":
        await stage.delete_body(entry_id)
    else:
        await stage.lose(entry_id, how)
    before = await stage.everything()

    assert not await _retry(store, entry_id)
    assert await stage.everything() == before


async def test_a_call_whose_time_cannot_be_written_stays_ours(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.parked, "not a sorted set", "EX", 60)
    before = await stage.everything()
    with pytest.raises(WrongTypeError):
        await _retry(store, entry_id)

    assert await stage.everything() == before


_FILL = "for i = 1, 10500 do redis.call('XADD', KEYS[1], '*', 'event', 'old') end"
