"""snapshot: all figures of the group, of one moment."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING
from unittest.mock import AsyncMock

import pytest

from toolspan.errors import GroupMissingError
from toolspan.model import GroupSnapshot
from toolspan.store import Inspector

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection

LEASE_MS = 30_000


@pytest.fixture
def inspector(stage: Stage, connection: Connection) -> Inspector:
    return Inspector(connection, stage.keys)


async def test_an_empty_group_has_no_figures(stage: Stage, inspector: Inspector) -> None:
    before = await stage.everything()

    assert await inspector.snapshot(lease_ms=LEASE_MS) == GroupSnapshot(
        length=0,
        pending=0,
        parked=0,
        undelivered=0,
        consumers=0,
        live_workers=0,
        draining_workers=0,
        silent_workers=0,
        pending_by_attempt=(0, 0, 0, 0),
        oldest_undelivered_age=None,
        oldest_pending_age=None,
        dead_letters=0,
        oldest_dead_letter_age=None,
    )
    assert await stage.everything() == before


async def test_calls_are_counted_by_where_they_are(stage: Stage, inspector: Inspector) -> None:
    for _ in range(3):
        await stage.held()
    for _ in range(2):
        await stage.parked()
    for _ in range(4):
        await stage.plane.add("tool", "echo")

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert (found.length, found.pending, found.parked, found.undelivered) == (9, 3, 2, 4)
    assert found.consumers == 2


async def test_an_entry_whose_body_is_gone_makes_no_figure_negative(stage: Stage, inspector: Inspector) -> None:
    await stage.delete_body(await stage.held())

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert (found.pending, found.undelivered) == (1, 0)


async def test_workers_are_live_or_silent_by_their_last_heartbeat(stage: Stage, inspector: Inspector) -> None:
    await stage.beats("a")
    await stage.beats("b", ago_ms=LEASE_MS - 10_000)
    await stage.beats("c", ago_ms=LEASE_MS + 1)
    for order in ("drain:b", "drain:c", "pause:a"):
        await stage.call("HSET", stage.keys.control, order, "{}")

    found = await inspector.snapshot(lease_ms=LEASE_MS)
    await stage.call("DEL", stage.keys.control)

    # Who is silent does nothing, whatever it said last.
    assert (found.live_workers, found.draining_workers, found.silent_workers) == (1, 1, 1)


async def test_undelivered_calls_are_counted_after_a_deletion(stage: Stage, inspector: Inspector) -> None:
    await stage.held()
    waiting = [await stage.plane.add("tool", "echo") for _ in range(4)]
    await stage.delete_body(waiting[1])

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).undelivered == 3


async def test_undelivered_calls_are_counted_where_pending_ones_were_trimmed(
    stage: Stage, inspector: Inspector
) -> None:
    for _ in range(5):
        await stage.held()
    for _ in range(4):
        await stage.plane.add("tool", "echo")
    await stage.call("XTRIM", stage.keys.calls, "MAXLEN", 2)

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert (found.length, found.pending, found.undelivered) == (2, 5, 2)


async def test_what_nobody_can_count_quickly_is_absent(stage: Stage, inspector: Inspector) -> None:
    for _ in range(1_000):
        await stage.plane.add("tool", "echo")
    await stage.call("XREADGROUP", "GROUP", stage.keys.group, "me", "COUNT", 1_000, "STREAMS", stage.keys.calls, ">")
    await stage.plane.add("tool", "echo")
    await stage.call("XTRIM", stage.keys.calls, "MAXLEN", 1)

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).undelivered is None


async def test_a_call_that_waits_is_never_hidden_by_bodies_that_were_deleted(
    stage: Stage, inspector: Inspector
) -> None:
    for entry_id in [await stage.held() for _ in range(3)][1:]:
        await stage.delete_body(entry_id)
    await stage.plane.add("tool", "echo")

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).undelivered == 1


async def test_later_attempts_are_counted_as_the_workers_told(stage: Stage, inspector: Inspector) -> None:
    await stage.beats("a")
    await stage.works("a", again=(2, 1, 1))
    for _ in range(6):
        await stage.held("a")
    for _ in range(2):
        await stage.held("unregistered")
    await stage.parked(attempt=3)

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).pending_by_attempt == (4, 2, 1, 1)


async def test_no_more_later_attempts_are_counted_than_are_still_pending(stage: Stage, inspector: Inspector) -> None:
    await stage.beats("a")
    await stage.works("a", again=(5, 1, 1))
    await stage.works("gone", again=(5, 1, 1))
    for _ in range(3):
        await stage.held("a")

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).pending_by_attempt == (0, 1, 1, 1)


async def test_the_oldest_pending_call_is_the_one_that_runs_longest(stage: Stage, inspector: Inspector) -> None:
    now_ms = await stage.now_ms()
    await stage.beats("a")
    ended, other, runs = [await stage.held("a", attempt=2) for _ in range(3)]
    for gone in (ended,):
        await stage.call("XACK", stage.keys.calls, stage.keys.group, gone)
    oldest = [(ended, 2, now_ms - 900_000), (other, 1, now_ms - 800_000), (runs, 2, now_ms - 70_000)]
    await stage.works("a", oldest=oldest)
    # Waiting is not running.
    await stage.hold(await stage.parked(), "~parked", idle_ms=500_000)

    age = (await inspector.snapshot(lease_ms=LEASE_MS)).oldest_pending_age

    assert age is not None
    assert 70 <= age < 80


async def test_an_orphan_is_as_old_as_its_last_renewal(stage: Stage, inspector: Inspector) -> None:
    now_ms = await stage.now_ms()
    await stage.beats("dead", ago_ms=LEASE_MS * 4)
    entry_id = await stage.held("dead", idle_ms=LEASE_MS * 4)
    await stage.works("dead", oldest=[(entry_id, 1, now_ms - 900_000)])

    age = (await inspector.snapshot(lease_ms=LEASE_MS)).oldest_pending_age

    assert age is not None
    assert 120 <= age < 130


@pytest.mark.parametrize(
    "load",
    [
        b"\xff",
        b"[]",
        b"no JSON",
        b"7",
        b"null",
        b'{"again":7,"oldest":"no"}',
        b'{"oldest":[[[],1,1],[null,1,1],[true,1,1]]}',
        b'{"again":["a",-1,1e300],"oldest":[["no id",1,1],["1-0"],7,["1-0",1,"x"]]}',
    ],
)
async def test_what_a_worker_tells_and_nobody_can_read_changes_nothing(
    stage: Stage, inspector: Inspector, load: bytes
) -> None:
    await stage.beats("a")
    await stage.held("a", idle_ms=10_000)
    await stage.call("HSET", stage.keys.worker("a"), "load", load)
    await stage.call("PEXPIRE", stage.keys.worker("a"), 60_000)

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert (found.live_workers, found.pending_by_attempt) == (1, (1, 0, 0, 0))
    assert found.oldest_pending_age is not None
    assert 10 <= found.oldest_pending_age < 20


async def test_behind_what_nobody_can_read_of_a_run_others_are_told(stage: Stage, inspector: Inspector) -> None:
    now_ms = await stage.now_ms()
    await stage.beats("a")
    first, second = [await stage.held("a") for _ in range(2)]
    await stage.works("a", oldest=[(first, 1, "x"), (second, 1, now_ms - 70_000)])

    age = (await inspector.snapshot(lease_ms=LEASE_MS)).oldest_pending_age

    assert age is not None
    assert 70 <= age < 80


async def test_a_worker_tells_nothing_where_something_else_lies(stage: Stage, inspector: Inspector) -> None:
    await stage.beats("a")
    await stage.call("SET", stage.keys.worker("a"), "something else", "EX", 60)

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).live_workers == 1


async def test_a_worker_that_came_since_the_names_were_read_is_counted(
    stage: Stage, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "_beating", AsyncMock(return_value=[]))
    await stage.beats("a")

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).live_workers == 1


async def test_whoever_holds_nothing_has_no_oldest_call(stage: Stage, inspector: Inspector) -> None:
    await stage.call("XGROUP", "CREATECONSUMER", stage.keys.calls, stage.keys.group, "a")

    assert (await inspector.snapshot(lease_ms=LEASE_MS)).oldest_pending_age is None


async def test_the_oldest_pending_call_is_the_oldest_of_all_consumers(stage: Stage, inspector: Inspector) -> None:
    for owner, idle_ms in (("a", 60_000), ("b", 120_000), ("c", 30_000)):
        await stage.held(owner, idle_ms=idle_ms)

    age = (await inspector.snapshot(lease_ms=LEASE_MS)).oldest_pending_age

    assert age is not None
    assert 120 <= age < 130


async def test_the_age_of_the_oldest_call_is_that_of_what_nobody_was_given(stage: Stage, inspector: Inspector) -> None:
    now_ms = await stage.now_ms()
    await stage.call("XADD", stage.keys.calls, f"{now_ms - 500_000}-0", "tool", "echo")
    await stage.hold(f"{now_ms - 500_000}-0", "me")
    for ago_ms in (90_000, 60_000):
        await stage.call("XADD", stage.keys.calls, f"{now_ms - ago_ms}-0", "tool", "echo")

    age = (await inspector.snapshot(lease_ms=LEASE_MS)).oldest_undelivered_age

    assert age is not None
    assert 90 <= age < 100


async def test_dead_letters_are_counted_with_the_age_of_the_oldest(stage: Stage, inspector: Inspector) -> None:
    now_ms = await stage.now_ms()
    for ago_ms in (90_000, 60_000):
        await stage.call("XADD", stage.keys.dead_letters, f"{now_ms - ago_ms}-0", "dlq.id", "1-0")

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert found.dead_letters == 2
    assert found.oldest_dead_letter_age is not None
    assert 90 <= found.oldest_dead_letter_age < 100


async def test_who_may_not_read_dead_letters_counts_them_all_the_same(stage: Stage, inspector: Inspector) -> None:
    await stage.call("XADD", stage.keys.dead_letters, "1-0", "dlq.id", "1-0")

    found = await inspector.snapshot(lease_ms=LEASE_MS, letters=False)

    assert (found.dead_letters, found.oldest_dead_letter_age) == (1, None)


async def test_another_group_of_the_stream_is_not_ours(stage: Stage, inspector: Inspector) -> None:
    await stage.held()
    await stage.call("XGROUP", "CREATE", stage.keys.calls, "zz-another", "0")
    await stage.call("XREADGROUP", "GROUP", "zz-another", "x", "COUNT", 9, "STREAMS", stage.keys.calls, ">")

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert (found.pending, found.undelivered, found.consumers) == (1, 0, 1)


@pytest.mark.parametrize("lost", ["group", "stream"])
async def test_without_the_group_there_is_nothing_to_measure(stage: Stage, inspector: Inspector, lost: str) -> None:
    if lost == "group":
        await stage.call("XGROUP", "DESTROY", stage.keys.calls, stage.keys.group)
    else:
        await stage.call("DEL", stage.keys.calls)

    with pytest.raises(GroupMissingError):
        await inspector.snapshot(lease_ms=LEASE_MS)


@pytest.mark.parametrize(
    ("key", "unknown"),
    [
        ("dead_letters", {"dead_letters", "oldest_dead_letter_age"}),
        ("workers", {"live_workers", "draining_workers", "silent_workers"}),
        ("control", {"draining_workers"}),
        ("parked", {"parked", "pending", "pending_by_attempt"}),
        (
            "calls",
            {"length", "pending", "undelivered", "consumers", "pending_by_attempt", "oldest_pending_age"},
        ),
    ],
)
async def test_what_cannot_be_known_is_absent_and_the_rest_is_told(
    stage: Stage, inspector: Inspector, key: str, unknown: set[str]
) -> None:
    await stage.held()
    await stage.parked()
    await stage.beats("w")
    await stage.call("XADD", stage.keys.dead_letters, "*", "dlq.id", "1-0")
    await stage.call("SET", getattr(stage.keys, key), "something else", "EX", 60)

    found = await inspector.snapshot(lease_ms=LEASE_MS)
    await stage.call("DEL", stage.keys.parked, stage.keys.control)

    figures = {field.name: getattr(found, field.name) for field in fields(found)}
    # Nothing is undelivered, so that it has no age either.
    assert {name for name, value in figures.items() if value is None} == unknown | {"oldest_undelivered_age"}
