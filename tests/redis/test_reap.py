"""reap: deleting a consumer that is dead and holds nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.errors import WrongTypeError

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

SILENT_MS = 30_000


async def _joined(stage: Stage, name: str, *, ago_ms: int | None) -> None:
    """Have a consumer in the group, with a registration, and with a heartbeat if *ago_ms* says when."""
    await stage.call("XGROUP", "CREATECONSUMER", stage.keys.calls, stage.keys.group, name)
    await stage.call("HSET", stage.keys.worker(name), "lease", 1_000)
    await stage.call("PEXPIRE", stage.keys.worker(name), 60_000)
    if ago_ms is not None:
        await stage.beats(name, ago_ms=ago_ms)


async def test_a_silent_consumer_goes_with_its_registration_and_nobody_else(stage: Stage, store: StreamStore) -> None:
    await _joined(stage, "gone", ago_ms=SILENT_MS + 1_000)
    await _joined(stage, "other", ago_ms=SILENT_MS + 1_000)

    assert await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.plane.consumers() == ["other"]
    assert await stage.plane.beating() == ["other"]
    assert await stage.call("EXISTS", stage.keys.worker("gone")) == 0
    assert await stage.call("EXISTS", stage.keys.worker("other")) == 1


@pytest.mark.parametrize("ago_ms", [0, SILENT_MS - 10_000])
async def test_a_consumer_that_was_heard_of_stays(stage: Stage, store: StreamStore, ago_ms: int) -> None:
    await _joined(stage, "alive", ago_ms=ago_ms)
    before = await stage.everything()

    assert not await store.reap("alive", silent_ms=SILENT_MS)
    assert await stage.everything() == before


async def test_a_consumer_that_holds_something_stays(stage: Stage, store: StreamStore) -> None:
    await _joined(stage, "gone", ago_ms=SILENT_MS + 1_000)
    await stage.held("gone")
    before = await stage.everything()

    assert not await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.everything() == before


async def test_what_others_hold_keeps_nobody(stage: Stage, store: StreamStore) -> None:
    await _joined(stage, "gone", ago_ms=SILENT_MS + 1_000)
    await stage.held("other")

    assert await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.plane.consumers() == ["other"]


async def test_a_consumer_that_never_beat_stays_until_it_was_idle_for_as_long(stage: Stage, store: StreamStore) -> None:
    await _joined(stage, "foreign", ago_ms=None)
    before = await stage.everything()

    assert not await store.reap("foreign", silent_ms=SILENT_MS)
    assert await stage.everything() == before
    assert await store.reap("foreign", silent_ms=0)
    assert await stage.plane.consumers() == []


async def test_idle_time_says_nothing_of_a_consumer_that_beats(stage: Stage, store: StreamStore) -> None:
    # Its idle time is nought: it was only just made.
    await _joined(stage, "gone", ago_ms=SILENT_MS + 1_000)

    assert await store.reap("gone", silent_ms=SILENT_MS)


async def test_we_go_at_once(stage: Stage, store: StreamStore) -> None:
    await _joined(stage, "me", ago_ms=0)

    assert await store.reap("me", silent_ms=0)
    assert await stage.plane.consumers() == []


async def test_the_consumer_of_parked_calls_goes_once_it_is_empty(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.parked()
    assert not await store.reap("~parked", silent_ms=SILENT_MS)

    await stage.hold(entry_id, "me")
    assert await store.reap("~parked", silent_ms=SILENT_MS)
    assert await stage.plane.consumers() == ["me"]


async def test_a_heartbeat_without_a_consumer_goes(stage: Stage, store: StreamStore) -> None:
    await stage.beats("gone", ago_ms=SILENT_MS + 1_000)

    assert await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.plane.beating() == []


async def test_a_name_that_nobody_knows_is_gone(stage: Stage, store: StreamStore) -> None:
    await stage.held("other")

    assert await store.reap("nobody", silent_ms=SILENT_MS)


@pytest.mark.parametrize("lost", ["group", "stream"])
async def test_a_registration_goes_without_its_group(stage: Stage, store: StreamStore, lost: str) -> None:
    await stage.beats("gone", ago_ms=0)
    await stage.call("HSET", stage.keys.worker("gone"), "lease", 1_000)
    if lost == "group":
        await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)
        await stage.call("XGROUP", "CREATE", stage.keys.calls, "another", "0")
    else:
        await stage.call("DEL", stage.keys.calls)

    assert await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.call("EXISTS", stage.keys.workers, stage.keys.worker("gone")) == 0


async def test_nobody_is_reaped_where_something_else_lies(stage: Stage, store: StreamStore) -> None:
    await stage.beats("gone", ago_ms=SILENT_MS + 1_000)
    await stage.call("SET", stage.keys.calls, "not a stream")
    before = await stage.everything()
    with pytest.raises(WrongTypeError):
        await store.reap("gone", silent_ms=SILENT_MS)

    assert await stage.everything() == before


async def test_what_lies_under_the_names_of_orders_and_streams_keeps_nobody(stage: Stage, store: StreamStore) -> None:
    await _joined(stage, "gone", ago_ms=SILENT_MS + 1_000)
    for key in (stage.keys.control, stage.keys.streams):
        await stage.call("SET", key, "something else")

    assert await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.plane.beating() == []
    await stage.call("DEL", stage.keys.control)


@pytest.mark.parametrize(
    ("others", "left", "stays"),
    [([], 0, False), (["other"], 0, True), ([], 1, True)],
    ids=["last", "not last", "calls left"],
)
async def test_a_stream_is_the_planes_until_its_last_worker_leaves_it_empty(
    stage: Stage, store: StreamStore, others: list[str], left: int, stays: bool
) -> None:
    for name in ("gone", *others):
        await _joined(stage, name, ago_ms=SILENT_MS + 1_000)
    for _ in range(left):
        await stage.plane.append("echo")
    await stage.call("SADD", stage.keys.streams, stage.keys.stream, "another")

    assert await store.reap("gone", silent_ms=SILENT_MS)
    assert await stage.call("SISMEMBER", stage.keys.streams, stage.keys.stream) == int(stays)
    assert await stage.call("SISMEMBER", stage.keys.streams, "another") == 1


async def test_a_consumer_that_stays_leaves_the_streams_alone(stage: Stage, store: StreamStore) -> None:
    await stage.call("SADD", stage.keys.streams, stage.keys.stream)
    await _joined(stage, "alive", ago_ms=0)

    assert not await store.reap("alive", silent_ms=SILENT_MS)
    assert await stage.call("SISMEMBER", stage.keys.streams, stage.keys.stream) == 1
