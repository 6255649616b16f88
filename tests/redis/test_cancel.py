from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from toolspan.store import CallerStore
from toolspan.store.cancellations import CancellationStore

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.store import Connection


@pytest.fixture
def callers(connection: Connection, plane: Plane) -> CallerStore:
    return CallerStore(connection, plane.keys, gateway_id="one", block_ms=100)


@pytest.fixture
def store(connection: Connection, plane: Plane) -> CancellationStore:
    return CancellationStore(connection, plane.keys)


async def test_what_was_given_up_is_found_until_its_time_is_over(
    callers: CallerStore, store: CancellationStore, plane: Plane
) -> None:
    await callers.cancel("two", ttl_ms=60_000)

    assert await store.given_up(["one", "two", "three"]) == ["two"]
    assert 0 < await plane.redis.pttl(plane.keys.cancel("two")) <= 60_000


async def test_a_parked_call_is_due_at_once_but_never_later_than_it_was(callers: CallerStore, plane: Plane) -> None:
    await plane.redis.zadd(plane.keys.parked, {"1-1": 9e15, "2-1": 5})
    for entry_id in ("1-1", "2-1", "3-1"):
        await callers.cancel("call", ttl_ms=1_000, entry_id=entry_id)

    due: Any = await plane.redis.zrange(plane.keys.parked, 0, -1, withscores=True)
    (first, five), (second, now) = due
    assert (first, five, second) == (b"2-1", 5, b"1-1")
    assert now < 9e14
    await plane.redis.delete(plane.keys.parked)


async def test_something_else_under_the_parked_calls_name_does_not_stop_a_cancellation(
    callers: CallerStore, store: CancellationStore, plane: Plane
) -> None:
    await plane.redis.set(plane.keys.parked, "on-purpose", ex=60)
    await callers.cancel("call", ttl_ms=1_000, entry_id="1-1")

    assert await store.given_up(["call"]) == ["call"]


async def test_the_last_entry_id_is_known_also_of_a_stream_that_is_empty_or_not_there(
    store: CancellationStore, plane: Plane
) -> None:
    assert await store.last_appended_ms() == 0
    entry_id = await plane.append("echo")
    await plane.redis.xdel(plane.keys.calls, entry_id)

    assert await store.last_appended_ms() == int(entry_id.partition("-")[0])
