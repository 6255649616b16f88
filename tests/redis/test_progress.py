from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.codec import encode_progress
from toolspan.store.progress import Progressed, ProgressReply, ProgressStore

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.store import Connection


@pytest.fixture
def store(connection: Connection, plane: Plane) -> ProgressStore:
    return ProgressStore(connection, plane.keys, me="me", reply_ttl_seconds=60, reply_maxlen=100)


def step(plane: Plane, entry_id: str, seq: int = 1, *, attempt: int = 1, reply_to: str = "") -> ProgressReply:
    fields = encode_progress(
        call_id="echo", entry_id=entry_id, value=b"[1]", seq=seq, attempt=attempt, consumer="me", traceparent=None
    )
    return ProgressReply(entry_id, attempt, reply_to or plane.reply_to, fields)


async def held_by_me(plane: Plane) -> str:
    entry_id = await plane.append("echo")
    await plane.orphan(owner="me")
    return entry_id


async def test_progress_is_written_for_a_call_that_we_hold(store: ProgressStore, plane: Plane) -> None:
    entry_id = await held_by_me(plane)

    assert await store.write([step(plane, entry_id, 1), step(plane, entry_id, 2)]) == [Progressed.DONE] * 2
    assert [(p.value, p.seq, p.attempt, p.consumer) for p in await plane.progress("echo")] == [
        ([1], 1, 1, "me"),
        ([1], 2, 1, "me"),
    ]
    assert await plane.redis.ttl(plane.reply_to) == 60
    assert await plane.left() == 1


async def test_progress_of_a_call_that_is_no_longer_ours_is_refused(store: ProgressStore, plane: Plane) -> None:
    entry_id = await held_by_me(plane)
    await plane.redis.xclaim(plane.keys.calls, plane.keys.group, "other", 0, [entry_id], justid=True)

    assert await store.write([step(plane, entry_id)]) == [Progressed.NOT_OURS]
    assert await plane.progress("echo") == []


async def test_progress_of_an_attempt_before_is_refused(store: ProgressStore, plane: Plane) -> None:
    entry_id = await held_by_me(plane)
    await plane.redis.xclaim(plane.keys.calls, plane.keys.group, "me", 0, [entry_id], retrycount=2, justid=True)

    assert await store.write([step(plane, entry_id), step(plane, entry_id, attempt=2)]) == [
        Progressed.NOT_OURS,
        Progressed.DONE,
    ]


async def test_progress_after_the_end_is_refused(store: ProgressStore, plane: Plane) -> None:
    entry_id = await held_by_me(plane)
    await plane.redis.xack(plane.keys.calls, plane.keys.group, entry_id)

    assert await store.write([step(plane, entry_id)]) == [Progressed.NOT_OURS]


async def test_progress_leaves_room_for_final_replies(store: ProgressStore, plane: Plane) -> None:
    entry_id = await held_by_me(plane)
    statuses = await store.write([step(plane, entry_id, seq) for seq in range(1, 61)])

    assert statuses == [Progressed.DONE] * 50 + [Progressed.NO_ROOM] * 10
    assert await plane.redis.xlen(plane.reply_to) == 50


async def test_a_reply_stream_that_cannot_be_written_harms_nobody_else(store: ProgressStore, plane: Plane) -> None:
    entry_id = await held_by_me(plane)
    bad = plane.keys.replies("on-purpose")
    await plane.redis.set(bad, "no stream")
    statuses = await store.write([step(plane, entry_id, reply_to=bad), step(plane, entry_id)])

    assert statuses == [Progressed.NO_ROOM, Progressed.DONE]
