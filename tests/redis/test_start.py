"""start: attempts begin to count before their tools run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.redis.stage import LOST
from toolspan.store.steps import Start, Started

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore


async def test_a_claimed_call_is_counted_and_its_lease_begins_anew(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=1, idle_ms=60_000)

    assert await store.start([Start(entry_id, 1, 2)]) == [Started.DONE]
    assert await stage.plane.pending() == {entry_id: ("me", 2)}
    assert await stage.idle_ms(entry_id) < 30_000


async def test_the_attempt_is_on_record_after_those_before(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    first = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}
    await stage.note(entry_id, first)
    before = await stage.now_ms()
    await store.start([Start(entry_id, 1, 2)])
    after = await stage.now_ms()

    kept, begun = await stage.attempts(entry_id)
    assert kept == first
    assert before <= begun.pop("start") <= after
    assert begun == {"consumer": "me", "attempt": 2}


async def test_a_start_that_is_asked_for_again_counts_once(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await store.start([Start(entry_id, 1, 2, "token")])

    assert await store.start([Start(entry_id, 1, 2, "token")]) == [Started.DONE]
    assert await stage.plane.pending() == {entry_id: ("me", 2)}
    assert len(await stage.attempts(entry_id)) == 1


async def test_an_attempt_of_another_worker_is_an_attempt_of_its_own(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    # Given back by a drain: the count went down again.
    await stage.note(entry_id, {"consumer": "other", "attempt": 1, "start": 1, "end": 2, "error": "released"})
    await store.start([Start(entry_id, 1, 1)])

    assert [attempt["consumer"] for attempt in await stage.attempts(entry_id)] == ["other", "me"]


@pytest.mark.parametrize(("consumer", "attempt"), [("other", 2), ("me", 1)])
async def test_what_else_is_on_record_as_running_is_an_attempt_of_its_own(
    stage: Stage, store: StreamStore, consumer: str, attempt: int
) -> None:
    entry_id = await stage.held()
    await stage.note(entry_id, {"consumer": consumer, "attempt": attempt, "start": 1})
    await store.start([Start(entry_id, 1, 2)])

    assert [(one["consumer"], one["attempt"]) for one in await stage.attempts(entry_id)] == [
        (consumer, attempt), ("me", 2),
    ]  # fmt: skip


async def test_a_start_without_a_token_leaves_no_mark(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await store.start([Start(entry_id, 1, 2)])

    assert await stage.call("HKEYS", stage.keys.attempts) == [entry_id.encode()]


async def test_a_call_that_runs_at_most_once_is_marked(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await store.start([Start(entry_id, 1, 1, "token")])

    assert await stage.call("HGET", stage.keys.attempts, f"{entry_id}:mark") == b"token"


async def test_a_mark_of_another_start_refuses_for_ever(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.mark(entry_id)
    before = await stage.everything()

    assert await store.start([Start(entry_id, 1, 2, "token")]) == [Started.MARKED]
    assert await stage.everything() == before


async def test_a_mark_stops_no_tool_that_may_run_again_by_now(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.mark(entry_id)

    assert await store.start([Start(entry_id, 1, 2)]) == [Started.DONE]


@pytest.mark.parametrize("how", LOST)
async def test_what_is_no_longer_ours_is_not_begun(stage: Stage, store: StreamStore, how: str) -> None:
    entry_id = await stage.held()
    await stage.lose(entry_id, how)
    before = await stage.everything()

    assert await store.start([Start(entry_id, 1, 1, "token")]) == [Started.NOT_OURS]
    assert await stage.everything() == before


async def test_a_call_without_a_body_is_left_to_be_reported_as_lost(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.delete_body(entry_id)
    before = await stage.everything()

    assert await store.start([Start(entry_id, 1, 2, "token")]) == [Started.NOT_OURS]
    assert await stage.everything() == before


async def test_one_refusal_harms_no_neighbour(stage: Stage, store: StreamStore) -> None:
    first, lost, last = [await stage.held() for _ in range(3)]
    await stage.lose(lost, "another owner")

    assert await store.start([Start(first, 1, 2), Start(lost, 1, 2), Start(last, 1, 2)]) == [
        Started.DONE,
        Started.NOT_OURS,
        Started.DONE,
    ]
    assert await stage.plane.pending() == {first: ("me", 2), lost: ("other", 1), last: ("me", 2)}


async def test_what_else_we_hold_between_them_stays_as_it_is(stage: Stage, store: StreamStore) -> None:
    """More than one look at what is pending takes."""
    first = await stage.held()
    between = [await stage.held() for _ in range(150)]
    last = await stage.held()

    assert await store.start([Start(last, 1, 2), Start(first, 1, 2)]) == [Started.DONE, Started.DONE]
    pending = await stage.plane.pending()
    assert (pending[first], pending[last]) == (("me", 2), ("me", 2))
    assert {pending[entry_id] for entry_id in between} == {("me", 1)}
    assert await stage.attempts(between[0]) == []


async def test_starts_of_different_attempts_are_counted_each(stage: Stage, store: StreamStore) -> None:
    first, second, third = [await stage.held(attempt=attempt) for attempt in (1, 2, 1)]
    await store.start([Start(first, 1, 2), Start(second, 2, 3, "token"), Start(third, 1, 2)])

    assert await stage.plane.pending() == {first: ("me", 2), second: ("me", 3), third: ("me", 2)}
    assert await stage.call("HGET", stage.keys.attempts, f"{second}:mark") == b"token"


async def test_of_two_starts_of_one_call_the_second_meets_the_mark_of_the_first(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held()

    assert await store.start([Start(entry_id, 1, 1, "one"), Start(entry_id, 1, 1, "two"), Start(entry_id, 1, 1)]) == [
        Started.DONE, Started.MARKED, Started.DONE,
    ]  # fmt: skip
    assert await stage.call("HGET", stage.keys.attempts, f"{entry_id}:mark") == b"one"
    assert len(await stage.attempts(entry_id)) == 1


async def test_of_two_starts_of_one_call_the_second_meets_the_count_of_the_first(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held()

    assert await store.start([Start(entry_id, 1, 2), Start(entry_id, 1, 3)]) == [Started.DONE, Started.NOT_OURS]
    assert await stage.plane.pending() == {entry_id: ("me", 2)}


async def test_thousands_are_begun_page_by_page(stage: Stage, store: StreamStore) -> None:
    pipeline = stage.redis.pipeline(transaction=False)
    for _ in range(2_001):
        pipeline.execute_command("XADD", stage.keys.calls, "*", "tool", "echo")
    ids = [entry_id.decode() for entry_id in await pipeline.execute()]
    await store.read_new(2_001)

    assert await store.start([Start(entry_id, 1, 2) for entry_id in ids]) == [Started.DONE] * 2_001
    assert set((await stage.plane.pending()).values()) == {("me", 2)}


async def test_nothing_to_begin_is_nothing_to_ask(store: StreamStore) -> None:
    assert await store.start([]) == []


async def test_at_most_twenty_attempts_are_kept_the_first_always(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=25)
    past: list[dict[str, Any]] = [{"consumer": "old", "attempt": n, "start": n, "end": n} for n in range(1, 26)]
    await stage.note(entry_id, *past)
    await store.start([Start(entry_id, 25, 26)])

    assert [attempt["attempt"] for attempt in await stage.attempts(entry_id)] == [1, *range(8, 27)]


async def test_an_attempt_that_was_given_back_and_begins_again_is_running(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    released = {"consumer": "me", "attempt": 1, "start": 1, "end": 2, "error": "released"}
    await stage.note(entry_id, released)
    await store.start([Start(entry_id, 0, 1)])

    ended, running = await stage.attempts(entry_id)
    assert ended == released
    assert "end" not in running


async def test_the_loss_of_an_attempt_that_began_again_is_counted(stage: Stage) -> None:
    entry_id = await stage.held(attempt=0)
    await stage.note(entry_id, {"consumer": "me", "attempt": 1, "start": 1, "end": 2, "error": "released"})
    await stage.store().start([Start(entry_id, 0, 1)])
    await stage.hold(entry_id, "me", idle_ms=60_000)
    claims = await stage.store("other").claim("me", lease_ms=30_000, count=1, suspects=1, max_attempts=4)

    assert [claim.delivery.losses for claim in claims.claimed] == [1]
