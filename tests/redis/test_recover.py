"""recover: what we hold without knowing it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

RUNNING: dict[str, Any] = {"consumer": "me", "attempt": 2, "start": 2}
LOST: dict[str, Any] = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}


async def test_what_we_know_is_not_found(stage: Stage, store: StreamStore) -> None:
    known, unknown = [await stage.held() for _ in range(2)]
    await stage.held("other")
    await stage.parked()
    before = await stage.everything()

    assert [claim.delivery.entry_id for claim in await store.recover([known])] == [unknown]
    assert await stage.everything() == before


async def test_a_lost_answer_to_a_read_has_counted_its_attempt(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(fields=(b"\xff", b"\x00", "a", "1", "a", "2"))

    [claim] = await store.recover([])

    delivery = claim.delivery
    assert (delivery.attempt, delivery.counted, delivery.origin, claim.marked) == (1, True, "first", False)
    assert delivery.fields == [b"\xff", b"\x00", b"a", b"1", b"a", b"2"]
    assert delivery.ready_ms == int(entry_id.split("-")[0])


async def test_a_lost_answer_to_a_start_has_counted_its_attempt(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=2)
    await stage.note(entry_id, LOST, RUNNING)

    [claim] = await store.recover([])

    delivery = claim.delivery
    assert (delivery.attempt, delivery.counted, delivery.origin) == (2, True, "reclaim")
    assert delivery.losses == 1
    # Whose it was is told now, for the answer that said it was lost as well.
    assert (delivery.owner, delivery.loss, delivery.ready_ms) == ("gone", "worker_lost", 2)
    assert delivery.previous is not None
    assert delivery.previous.consumer == "gone"


@pytest.mark.parametrize("attempt", [0, 1])
async def test_a_lost_answer_to_a_claim_has_not(stage: Stage, store: StreamStore, attempt: int) -> None:
    entry_id = await stage.held(attempt=attempt)
    if attempt:
        await stage.note(entry_id, LOST)

    [claim] = await store.recover([])

    assert (claim.delivery.attempt, claim.delivery.counted) == (attempt, False)
    assert (claim.delivery.owner, claim.delivery.loss) == (("gone", "worker_lost") if attempt else (None, None))


@pytest.mark.parametrize("begun", [False, True])
async def test_a_lost_answer_to_a_claim_of_what_was_due_is_no_reclaim(
    stage: Stage, store: StreamStore, *, begun: bool
) -> None:
    entry_id = await stage.held(attempt=1 + begun)
    await stage.note(entry_id, {**LOST, "error": "tool_error"}, *([RUNNING] if begun else []))

    [claim] = await store.recover([])

    assert (claim.delivery.counted, claim.delivery.origin, claim.delivery.loss) == (begun, "retry", None)


async def test_an_attempt_of_another_worker_is_not_taken_for_ours(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=2)
    await stage.note(entry_id, LOST, {**RUNNING, "consumer": "other"})

    [claim] = await store.recover([])

    assert claim.delivery.counted is False


async def test_a_mark_is_told(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.mark(entry_id)

    assert [claim.marked for claim in await store.recover([])] == [True]


async def test_a_call_without_a_body_is_left_to_be_reported_as_lost(stage: Stage, store: StreamStore) -> None:
    await stage.delete_body(await stage.held())
    before = await stage.everything()

    assert await store.recover([]) == []
    assert await stage.everything() == before


async def test_thousands_are_found_page_by_page(stage: Stage, store: StreamStore) -> None:
    pipeline = stage.redis.pipeline(transaction=False)
    for _ in range(2_001):
        pipeline.execute_command("XADD", stage.keys.calls, "*", "tool", "echo")
    ids = [entry_id.decode() for entry_id in await pipeline.execute()]
    await store.read_new(2_001)

    assert [claim.delivery.entry_id for claim in await store.recover(ids[:500])] == ids[500:]
