"""claim_due: taking parked calls whose next attempt is due."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore
    from toolspan.store.steps import Claims

MAX_ATTEMPTS = 4


async def _claim(store: StreamStore, *, count: int = 10, suspects: int = 1, skipped: tuple[str, ...] = ()) -> Claims:
    return await store.claim_due(count=count, suspects=suspects, max_attempts=MAX_ATTEMPTS, skipped=skipped)


def _ids(claims: Claims) -> list[str]:
    return [claim.delivery.entry_id for claim in claims.claimed]


def _ended(attempt: int, error: str) -> dict[str, Any]:
    return {"consumer": "old", "attempt": attempt, "start": attempt, "end": attempt + 1, "error": error}


async def test_a_due_call_is_taken_without_counting_an_attempt(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked(attempt=2, due_ms=5, fields=(b"\xff", b"\x00", "a", "1", "a", "2"))
    await stage.note(entry_id, _ended(2, "tool_error"))

    [claim] = (await _claim(store)).claimed

    assert await stage.plane.pending() == {entry_id: ("me", 2)}
    assert await stage.call("EXISTS", stage.keys.parked) == 0
    delivery = claim.delivery
    assert (delivery.entry_id, delivery.attempt, delivery.counted) == (entry_id, 2, False)
    assert delivery.fields == [b"\xff", b"\x00", b"a", b"1", b"a", b"2"]
    assert delivery.ready_ms == 5
    assert claim.marked is False


async def test_a_lease_begins_when_a_due_call_is_taken(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked()
    await stage.hold(entry_id, "~parked", idle_ms=60_000)
    await _claim(store)

    assert await stage.idle_ms(entry_id) < 30_000


@pytest.mark.parametrize(
    ("attempt", "errors", "origin"),
    [
        (0, [], "first"),
        (0, ["released"], "first"),
        (1, ["tool_error"], "retry"),
        (1, ["worker_error"], "retry"),
        (1, ["worker_lost"], "reclaim"),
        (1, ["lease_expired"], "reclaim"),
        (1, ["worker_lost", "released"], "reclaim"),
        (1, ["tool_error", "released"], "retry"),
        (2, ["worker_lost", "tool_error", "released", "released"], "retry"),
    ],
)
async def test_a_call_that_was_given_back_stays_what_it_was(
    stage: Stage, store: StreamStore, attempt: int, errors: list[str], origin: str
) -> None:
    entry_id = await stage.parked(attempt=attempt)
    if errors:
        await stage.note(entry_id, *(_ended(number, error) for number, error in enumerate(errors, 1)))

    [claim] = (await _claim(store)).claimed

    assert claim.delivery.origin == origin


async def test_what_is_not_due_is_left_alone(stage: Stage, store: StreamStore) -> None:
    await stage.parked(due_ms=await stage.now_ms() + 60_000)
    before = await stage.everything()
    claims = await _claim(store)

    assert (claims.claimed, claims.gone) == ([], [])
    assert await stage.everything() == before


async def test_no_more_is_taken_than_there_is_room_for_oldest_first(stage: Stage, store: StreamStore) -> None:
    third, first, second = [await stage.parked(due_ms=due_ms) for due_ms in (3, 1, 2)]

    assert _ids(await _claim(store, count=2)) == [first, second]
    assert await stage.plane.pending("~parked") == {third: ("~parked", 1)}


async def test_what_is_left_to_others_stands_in_nobodys_way(stage: Stage, store: StreamStore) -> None:
    first, second, ours, more = [await stage.parked(due_ms=due_ms) for due_ms in (1, 2, 3, 4)]

    assert _ids(await _claim(store, count=1, skipped=(first, second))) == [ours]
    assert set(await stage.plane.pending("~parked")) == {first, second, more}


async def test_skipped_calls_that_are_elsewhere_make_no_room(stage: Stage, store: StreamStore) -> None:
    first, second = [await stage.parked(due_ms=due_ms) for due_ms in (1, 2)]

    assert _ids(await _claim(store, count=1, skipped=("1-1", "1-2"))) == [first]
    assert await stage.plane.pending("~parked") == {second: ("~parked", 1)}


async def test_what_a_group_made_anew_has_forgotten_is_parked_no_more(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked()
    await stage.recreate_group()

    claims = await _claim(store)

    assert (claims.claimed, claims.gone) == ([], [])
    assert await stage.call("EXISTS", stage.keys.parked) == 0
    assert [delivery.entry_id for delivery in await store.read_new(10)] == [entry_id]


async def test_what_somebody_else_holds_now_is_not_taken(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked()
    await stage.hold(entry_id, "other")
    claims = await _claim(store)

    assert (claims.claimed, claims.gone) == ([], [])
    assert await stage.plane.pending() == {entry_id: ("other", 1)}


async def test_a_call_without_a_body_is_acknowledged_and_told_as_lost(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked(attempt=2)
    await stage.note(entry_id, _ended(1, "worker_lost"))
    await stage.mark(entry_id)
    await stage.delete_body(entry_id)

    claims = await _claim(store)

    assert (claims.claimed, claims.gone) == ([], [(entry_id, 2)])
    assert await stage.plane.pending() == {}
    assert await stage.call("EXISTS", stage.keys.parked, stage.keys.attempts) == 0
    assert await stage.events() == [
        {"event": "lost", "entry": entry_id, "consumer": "~parked", "attempt": "2", "reason": "deleted"}
    ]


async def test_a_mark_and_the_losses_are_told(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked()
    await stage.note(entry_id, _ended(1, "worker_lost"))
    await stage.mark(entry_id)

    [claim] = (await _claim(store)).claimed

    assert (claim.marked, claim.delivery.losses) == (True, 1)


async def _suspect(stage: Stage, *, attempt: int = 2, due_ms: int = 1) -> str:
    entry_id = await stage.parked(attempt=attempt, due_ms=due_ms)
    await stage.note(entry_id, *(_ended(number, "worker_lost") for number in range(1, attempt + 1)))
    return entry_id


async def test_suspects_are_taken_one_at_a_time_and_ordinary_calls_beside_them(
    stage: Stage, store: StreamStore
) -> None:
    first, second = [await _suspect(stage) for _ in range(2)]
    ordinary = await stage.parked(due_ms=2)

    assert _ids(await _claim(store, suspects=1)) == [first, ordinary]
    assert await stage.plane.pending("~parked") == {second: ("~parked", 2)}


async def test_an_ordinary_call_does_not_take_the_suspects_place(stage: Stage, store: StreamStore) -> None:
    ordinary = await stage.parked(due_ms=1)
    suspect = await _suspect(stage, due_ms=2)

    assert _ids(await _claim(store, suspects=1)) == [ordinary, suspect]


async def test_a_page_that_is_taken_in_part_is_gone_on_from_where_it_ended(stage: Stage, store: StreamStore) -> None:
    """A page has a hundred: were those that are taken counted too, as many would be passed over on the next one."""
    due = [await stage.parked(due_ms=number) for number in range(1, 151)]

    assert _ids(await _claim(store, count=100, skipped=tuple(due[:50]))) == due[50:]


async def test_a_suspect_that_is_not_taken_stays_as_it_was(stage: Stage, store: StreamStore) -> None:
    await _suspect(stage)
    before = await stage.everything()

    assert _ids(await _claim(store, suspects=0)) == []
    assert await stage.everything() == before


@pytest.mark.parametrize("why", ["marked", "attempts used up"])
async def test_what_will_not_be_run_is_no_suspect(stage: Stage, store: StreamStore, why: str) -> None:
    if why == "marked":
        entry_id = await _suspect(stage)
        await stage.mark(entry_id)
    else:
        entry_id = await _suspect(stage, attempt=MAX_ATTEMPTS)

    assert _ids(await _claim(store, suspects=0)) == [entry_id]


async def test_suspects_that_wait_stand_in_no_ordinary_calls_way(stage: Stage, store: StreamStore) -> None:
    for _ in range(120):
        await _suspect(stage)
    ordinary = await stage.parked(due_ms=2)

    assert _ids(await _claim(store, count=1, suspects=0)) == [ordinary]
    assert len(await stage.plane.pending("~parked")) == 120


async def test_only_one_suspect_is_taken_however_many_pages_are_looked_at(stage: Stage, store: StreamStore) -> None:
    suspects = [await _suspect(stage) for _ in range(250)]
    ordinary = await stage.parked(due_ms=2)

    assert _ids(await _claim(store, count=5)) == [suspects[0], ordinary]


async def test_what_is_no_entry_id_stands_in_nobodys_way(stage: Stage, store: StreamStore) -> None:
    await stage.call("ZADD", stage.keys.parked, 0, "somebody's")
    entry_id = await stage.parked()

    assert _ids(await _claim(store)) == [entry_id]
    assert await stage.call("ZRANGE", stage.keys.parked, 0, -1) == [b"somebody's"]
    await stage.call("DEL", stage.keys.parked)
