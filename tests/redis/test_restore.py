"""restore, tidy: what accidents leave behind is put right, a bounded piece at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from toolspan.errors import GroupMissingError, WrongTypeError
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

LOST: Final[dict[str, Any]] = {"consumer": "gone", "attempt": 1, "start": 1, "end": 2, "error": "worker_lost"}


async def test_calls_whose_due_times_are_lost_become_due(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.parked(due_ms=await stage.now_ms() + 600_000) for _ in range(3)]
    await stage.call("DEL", stage.keys.parked)

    assert await store.restore_parked() == 3
    claims = await store.claim_due(count=10, suspects=1, max_attempts=4)
    assert [claim.delivery.entry_id for claim in claims.claimed] == ids


async def test_due_times_that_are_left_stay_as_they_are(stage: Stage, store: StreamStore) -> None:
    later = await stage.now_ms() + 600_000
    await stage.held("another")
    kept, lost = [await stage.parked(due_ms=later) for _ in range(2)]
    await stage.call("ZREM", stage.keys.parked, lost)

    assert await store.restore_parked() == 1
    assert await stage.redis.zscore(stage.keys.parked, kept) == later
    assert 0 < (await stage.redis.zscore(stage.keys.parked, lost) or 0) < later


async def test_all_of_very_many_due_times_are_restored(stage: Stage, store: StreamStore) -> None:
    await stage.call("EVAL", _PARK, 2, stage.keys.calls, stage.keys.parked, stage.keys.group, 3_500)
    await stage.call("ZREM", stage.keys.parked, *await stage.call("ZRANGE", stage.keys.parked, 2_400, 3_400))

    assert await store.restore_parked() == 1_001
    assert await stage.call("ZCARD", stage.keys.parked) == 3_500


async def test_where_no_due_time_is_missing_nothing_is_looked_at(stage: Stage, store: StreamStore) -> None:
    await stage.call("EVAL", _PARK, 2, stage.keys.calls, stage.keys.parked, stage.keys.group, 2_500)
    await stage.call("CONFIG", "RESETSTAT")

    assert await store.restore_parked() == 0
    assert "cmdstat_xpending" not in await stage.call("INFO", "commandstats")


async def test_behind_the_last_one_nothing_is_restored(stage: Stage) -> None:
    lost = await stage.held("~parked")
    keys = stage.keys
    answer = await Script("restore").run(
        stage.redis, stream=keys.calls, parked=keys.parked, group=keys.group, after=f"({lost}", count=10
    )

    assert answer == [b"", 0]
    assert await stage.call("EXISTS", keys.parked) == 0


async def test_where_nothing_is_parked_nothing_is_restored(stage: Stage, store: StreamStore) -> None:
    await stage.held()
    before = await stage.everything()

    assert await store.restore_parked() == 0
    assert await stage.everything() == before


async def test_due_times_of_a_wrong_type_are_reported(stage: Stage, store: StreamStore) -> None:
    await stage.held("~parked")
    await stage.call("SET", stage.keys.parked, "not a sorted set", "EX", 60)

    with pytest.raises(WrongTypeError):
        await store.restore_parked()


async def test_records_of_calls_that_are_gone_are_deleted(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.note(entry_id, LOST)
    await stage.mark(entry_id)
    await stage.lose(entry_id, "settled")

    assert await store.forget_gone() == 2
    assert await stage.call("EXISTS", stage.keys.attempts) == 0


@pytest.mark.parametrize("how", ["held", "parked", "undelivered", "held without a body"])
async def test_records_of_calls_that_are_left_stay(stage: Stage, store: StreamStore, how: str) -> None:
    entry_id = await (stage.parked() if how == "parked" else stage.held())
    if how == "undelivered":
        await stage.recreate_group()
    elif how == "held without a body":
        await stage.delete_body(entry_id)
    await stage.note(entry_id, LOST)
    await stage.mark(entry_id)
    before = await stage.everything()

    assert await store.forget_gone() == 0
    assert await stage.everything() == before
    await stage.call("DEL", stage.keys.attempts)


async def test_records_wait_until_there_is_a_group_to_ask(stage: Stage, store: StreamStore) -> None:
    await stage.note("1-1", LOST)
    await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)
    with pytest.raises(GroupMissingError):
        await store.forget_gone()

    assert await stage.attempts("1-1") == [LOST]
    await stage.call("DEL", stage.keys.attempts)


@pytest.mark.parametrize(
    "name", ["x", "", "1", "1-", "-", "1-1-1", "1-1:other", ":mark", f"{'9' * 20}-1", f"1-{'9' * 20}"]
)
async def test_what_is_not_named_by_an_entry_id_is_not_ours(stage: Stage, store: StreamStore, name: str) -> None:
    await stage.call("HSET", stage.keys.attempts, name, "")
    before = await stage.everything()

    assert await store.forget_gone() == 0
    assert await stage.everything() == before
    await stage.call("DEL", stage.keys.attempts)


async def test_very_many_records_are_looked_through_in_rounds(stage: Stage, store: StreamStore) -> None:
    await stage.call("EVAL", _RECORD, 1, stage.keys.attempts, 3_000)
    first = await store.forget_gone()
    second = await store.forget_gone()

    assert 1_900 < first < 3_000
    assert first + second == 3_000


_PARK = """
for i = 1, ARGV[2] do
  local id = i .. '-1'
  redis.call('XADD', KEYS[1], id, 'tool', 'echo')
  redis.call('XCLAIM', KEYS[1], ARGV[1], '~parked', 0, id, 'FORCE', 'JUSTID', 'LASTID', id)
  redis.call('ZADD', KEYS[2], 9e12, id)
end
"""
_RECORD = "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], i .. '-1', '[]') end"
