"""snapshot: all figures of the group, of one moment."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

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

    assert await inspector.snapshot(lease_ms=LEASE_MS) == GroupSnapshot(0, 0, 0, 0, 0, 0, 0, None, 0, None, 0)
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

    found = await inspector.snapshot(lease_ms=LEASE_MS)

    assert (found.live_workers, found.silent_workers) == (2, 1)


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
        ("workers", {"live_workers", "silent_workers", "draining_workers"}),
        ("control", {"draining_workers"}),
        ("parked", {"parked", "pending"}),
        ("calls", {"length", "pending", "undelivered", "consumers"}),
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
