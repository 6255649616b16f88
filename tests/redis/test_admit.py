"""admit, renew, hasten: limits of a tool that hold for the whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.errors import WrongTypeError
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Keeper
from toolspan.store.limits import LimitStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.redis.stage import Stage
    from toolspan.store import Connection
    from toolspan.store.limits import Admitted

LEASE_MS = 30_000


class Asking:
    """What one worker asks for one tool."""

    def __init__(self, stage: Stage, connection: Connection, me: str) -> None:
        self.store = LimitStore(connection, stage.keys, me=me, clock=RedisClock(), lease_ms=LEASE_MS)

    async def __call__(
        self,
        *waiting: str,
        ended: tuple[str, ...] = (),
        max_concurrency: int | None = None,
        rate: float | None = None,
    ) -> Admitted:
        return await self.store.admit(
            "search", max_concurrency=max_concurrency, rate=rate, ended=ended, waiting=waiting
        )


@pytest.fixture
def ask(stage: Stage, connection: Connection) -> Asking:
    return Asking(stage, connection, "me")


@pytest.fixture
def other(stage: Stage, connection: Connection) -> Asking:
    return Asking(stage, connection, "other")


@pytest.fixture
def keeper(stage: Stage, connection: Connection) -> Iterator[Keeper]:
    made = Keeper(connection, stage.keys, me="me", clock=RedisClock(), ttl_ms=60_000, timeout=5)
    yield made
    made.close()


async def _slots(stage: Stage) -> list[str]:
    return sorted(run.decode() for run in await stage.call("ZRANGE", stage.keys.slots("search"), 0, -1))


async def test_the_first_of_those_who_ask_may_begin_up_to_the_limit(stage: Stage, ask: Asking) -> None:
    assert (await ask("1-0", "2-0", "3-0", max_concurrency=2)).count == 2
    assert await _slots(stage) == ["me/1-0", "me/2-0"]


async def test_the_limit_holds_for_all_workers_together(stage: Stage, ask: Asking, other: Asking) -> None:
    await ask("1-0", max_concurrency=2)

    assert (await other("2-0", "3-0", max_concurrency=2)).count == 1
    assert await _slots(stage) == ["me/1-0", "other/2-0"]


async def test_a_slot_that_is_given_back_is_anothers_in_the_same_step(stage: Stage, ask: Asking) -> None:
    await ask("1-0", max_concurrency=1)

    assert (await ask("2-0", ended=("1-0",), max_concurrency=1)).count == 1
    assert await _slots(stage) == ["me/2-0"]


async def test_the_last_slot_given_back_leaves_nothing(stage: Stage, ask: Asking) -> None:
    await ask("1-0", max_concurrency=1)
    await ask(ended=("1-0",), max_concurrency=1)

    assert await stage.call("EXISTS", stage.keys.slots("search"), stage.keys.rate("search")) == 0


async def test_what_has_its_slot_already_is_not_counted_again(stage: Stage, ask: Asking) -> None:
    await ask("1-0", max_concurrency=2, rate=2)

    # As after an answer that was lost.
    assert (await ask("1-0", "2-0", "3-0", max_concurrency=2, rate=2)).count == 2
    assert await _slots(stage) == ["me/1-0", "me/2-0"]


async def test_the_only_slot_is_told_again_to_who_has_it(ask: Asking) -> None:
    await ask("1-0", max_concurrency=1)

    assert (await ask("1-0", "2-0", max_concurrency=1)).count == 1


async def test_a_slot_that_is_no_longer_ours_is_given_back_by_nobody_else(
    stage: Stage, ask: Asking, other: Asking
) -> None:
    await ask("1-0", max_concurrency=1)
    before = await stage.everything()
    assert (await other(ended=("1-0",), max_concurrency=1)).count == 0

    after = await stage.everything()
    assert after.keys() == before.keys()
    assert await _slots(stage) == ["me/1-0"]


async def test_the_slots_of_a_dead_worker_come_back_with_the_end_of_its_lease(
    stage: Stage, ask: Asking, other: Asking
) -> None:
    await ask("1-0", max_concurrency=1)
    await stage.call("ZADD", stage.keys.slots("search"), await stage.now_ms() + 1_000, "me/1-0")
    assert (await other("2-0", max_concurrency=1)).count == 0

    await stage.call("ZADD", stage.keys.slots("search"), await stage.now_ms() - 1, "me/1-0")
    assert (await other("2-0", max_concurrency=1)).count == 1


async def test_each_worker_asks_by_its_own_limit(ask: Asking, other: Asking) -> None:
    await ask("1-0", "2-0", max_concurrency=2)

    assert (await other("3-0", max_concurrency=1)).count == 0
    assert (await other("3-0", max_concurrency=3)).count == 1


async def test_slots_outlive_no_lease(stage: Stage, ask: Asking) -> None:
    before = await stage.now_ms()
    await ask("1-0", max_concurrency=1)
    after = await stage.now_ms()

    assert before + LEASE_MS <= int(await stage.call("ZSCORE", stage.keys.slots("search"), "me/1-0"))
    assert before + LEASE_MS - 1_000 < await stage.call("PEXPIRETIME", stage.keys.slots("search")) <= after + LEASE_MS


async def test_a_longer_lease_of_another_stream_is_not_cut(stage: Stage, ask: Asking) -> None:
    await stage.call("ZADD", stage.keys.slots("search"), await stage.now_ms() + 10 * LEASE_MS, "theirs/1-0")
    await stage.call("PEXPIRE", stage.keys.slots("search"), 10 * LEASE_MS)
    await ask("1-0", max_concurrency=2)

    assert await stage.call("PTTL", stage.keys.slots("search")) > 9 * LEASE_MS


async def test_after_a_pause_as_many_begin_as_a_second_has(ask: Asking) -> None:
    admitted = await ask("1-0", "2-0", "3-0", "4-0", rate=2.5)

    assert admitted.count == 2
    assert admitted.again_ms is not None
    # Half a token is there.
    assert 150 <= admitted.again_ms <= 200


async def test_a_fraction_is_one_in_so_many_seconds(stage: Stage, ask: Asking) -> None:
    assert (await ask("1-0", "2-0", rate=0.1)).count == 1
    again = (await ask("2-0", rate=0.1)).again_ms
    assert again is not None
    assert 9_000 < again <= 10_000

    await _age(stage, seconds=again / 1000)
    assert (await ask("2-0", rate=0.1)).count == 1


async def test_tokens_come_back_with_the_time_and_never_more_than_the_burst(stage: Stage, ask: Asking) -> None:
    runs = [f"{number}-0" for number in range(1, 30)]
    assert (await ask(*runs, rate=10)).count == 10

    await _age(stage, seconds=0.45)
    assert (await ask(*runs, rate=10)).count in {4, 5}
    await _age(stage, seconds=3_600)
    assert (await ask(*runs, rate=10)).count == 10


async def test_a_clock_that_goes_back_gives_and_takes_nothing(stage: Stage, ask: Asking) -> None:
    await ask("1-0", "2-0", rate=2)
    await _age(stage, seconds=-3_600)

    assert (await ask("3-0", rate=2)).count == 0


async def test_a_bucket_is_forgotten_once_it_is_full(stage: Stage, ask: Asking) -> None:
    await ask("1-0", rate=0.5)
    assert 1_000 < await stage.call("PTTL", stage.keys.rate("search")) <= 2_000

    await stage.call("DEL", stage.keys.rate("search"))
    await ask("1-0", rate=100)
    assert 0 < await stage.call("PTTL", stage.keys.rate("search")) <= 1_000


async def test_where_all_slots_are_taken_no_token_is_spent(stage: Stage, ask: Asking, other: Asking) -> None:
    await other("1-0", max_concurrency=1)
    admitted = await ask("2-0", max_concurrency=1, rate=1)

    assert (admitted.count, admitted.again_ms) == (0, None)
    assert await stage.call("EXISTS", stage.keys.rate("search")) == 0


async def test_the_rate_is_waited_for_where_one_slot_is_left(ask: Asking, other: Asking) -> None:
    await other("1-0", max_concurrency=2, rate=1)
    admitted = await ask("2-0", max_concurrency=2, rate=1)

    assert admitted.count == 0
    assert admitted.again_ms is not None
    assert 0 < admitted.again_ms <= 1_000


async def test_where_all_begin_nobody_has_to_ask_again(ask: Asking) -> None:
    admitted = await ask("1-0", "2-0", max_concurrency=5, rate=2)

    assert (admitted.count, admitted.again_ms) == (2, None)


async def test_slots_of_a_limit_that_was_taken_away_are_none_of_our_business(stage: Stage, ask: Asking) -> None:
    await stage.call("SET", stage.keys.slots("search"), "whatever lies there", "PX", LEASE_MS // 2)

    assert (await ask("1-0", "2-0", rate=1)).count == 1
    assert await stage.call("PTTL", stage.keys.slots("search")) <= LEASE_MS // 2


async def test_without_a_token_no_slot_is_taken(stage: Stage, ask: Asking) -> None:
    assert (await ask("1-0", "2-0", max_concurrency=5, rate=1)).count == 1
    assert await _slots(stage) == ["me/1-0"]


@pytest.mark.parametrize("found", ["", "rubbish", "nan nan", "1", "x 1"])
async def test_a_bucket_that_cannot_be_read_is_full(stage: Stage, ask: Asking, found: str) -> None:
    await stage.call("SET", stage.keys.rate("search"), found, "EX", 60)

    assert (await ask("1-0", "2-0", rate=1)).count == 1


async def test_something_else_under_the_name_of_the_slots_is_an_error(stage: Stage, ask: Asking) -> None:
    await stage.call("SET", stage.keys.slots("search"), "not a sorted set", "EX", 60)

    with pytest.raises(WrongTypeError):
        await ask("1-0", max_concurrency=1)


async def test_a_heartbeat_keeps_the_slots_of_what_runs(stage: Stage, ask: Asking, keeper: Keeper) -> None:
    await ask("1-0", "2-0", max_concurrency=2)
    soon = await stage.now_ms() + 1_000
    await stage.call("ZADD", stage.keys.slots("search"), soon, "me/1-0", soon, "me/2-0")
    await stage.call("PEXPIRE", stage.keys.slots("search"), 1_000)

    assert keeper.renew_slots("search", ["1-0"], lease_ms=LEASE_MS) == 1
    assert int(await stage.call("ZSCORE", stage.keys.slots("search"), "me/1-0")) > soon
    assert int(await stage.call("ZSCORE", stage.keys.slots("search"), "me/2-0")) == soon
    assert await stage.call("PTTL", stage.keys.slots("search")) > 1_000


async def test_a_slot_that_is_no_longer_ours_is_not_kept(stage: Stage, ask: Asking, keeper: Keeper) -> None:
    await ask("1-0", max_concurrency=1)
    await ask(ended=("1-0",), max_concurrency=1)
    before = await stage.everything()

    assert keeper.renew_slots("search", ["1-0"], lease_ms=LEASE_MS) == 0
    assert await stage.everything() == before


async def test_a_slot_that_is_no_longer_ours_keeps_no_others(stage: Stage, other: Asking, keeper: Keeper) -> None:
    await other("1-0", max_concurrency=1)
    await stage.call("PEXPIRE", stage.keys.slots("search"), 1_000)

    assert keeper.renew_slots("search", ["1-0"], lease_ms=LEASE_MS) == 0
    assert await stage.call("PTTL", stage.keys.slots("search")) <= 1_000


async def test_a_longer_lease_of_another_stream_is_not_cut_by_a_heartbeat(
    stage: Stage, ask: Asking, keeper: Keeper
) -> None:
    await ask("1-0", max_concurrency=1)
    await stage.call("PEXPIRE", stage.keys.slots("search"), 10 * LEASE_MS)

    assert keeper.renew_slots("search", ["1-0"], lease_ms=LEASE_MS) == 1
    assert await stage.call("PTTL", stage.keys.slots("search")) > 9 * LEASE_MS


async def test_what_is_parked_until_later_can_be_made_due(stage: Stage, ask: Asking) -> None:
    later = await stage.parked(due_ms=await stage.now_ms() + 60_000)
    due = await stage.parked(due_ms=5)
    held = await stage.held()

    assert await ask.store.hasten([later, due, held]) == 1
    # Our own clock has to do here, which is not Redis' to the millisecond.
    assert int(await stage.call("ZSCORE", stage.keys.parked, later)) <= await stage.now_ms() + 100
    assert int(await stage.call("ZSCORE", stage.keys.parked, due)) == 5
    # What is not parked any more stays where it is.
    assert await stage.call("ZSCORE", stage.keys.parked, held) is None


async def _age(stage: Stage, *, seconds: float) -> None:
    """Let time pass for the bucket."""
    tokens, at_us = (await stage.call("GET", stage.keys.rate("search"))).decode().split()
    await stage.call("SET", stage.keys.rate("search"), f"{tokens} {int(at_us) - int(seconds * 1e6)}", "KEEPTTL")
