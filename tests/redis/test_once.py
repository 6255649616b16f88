"""What the end of a call does to its idempotency record, whichever step it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.redis.stage import LOST, filled
from toolspan.codec import NOTHING
from toolspan.store.steps import Burial, Ending, Quarantined, Settled, Settlement

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

REPLY = '["v","1"]'


async def _remember(stage: Stage, entry_id: str, digest: str = "k") -> None:
    record = f'{{"entry":"{entry_id}","id":"c1","args":"aa"}}'
    await stage.call("SET", stage.keys.once(digest), record, "PX", 50_000)


async def _record(stage: Stage, digest: str = "k") -> Any:
    raw = await stage.call("GET", stage.keys.once(digest))
    return raw and json.loads(raw)


async def _end(stage: Stage, store: StreamStore, entry_id: str, step: str, *, kept: bool = True) -> None:
    ending = Ending("k", kept, REPLY.encode())
    if step == "settle":
        batch = [Settlement(entry_id, 1, False, stage.reply_to, *filled("id", "c1"), ending)]
        await store.settle(1, batch, held=1)
    else:
        about = ["dlq.id", entry_id, "dlq.reason", "tool_failed"]
        await store.quarantine(Burial(entry_id, 1, "tool_failed", "tool_error", about, ending=ending))


steps = pytest.mark.parametrize("step", ["settle", "quarantine"])


@steps
@pytest.mark.parametrize("kept", [True, False])
async def test_an_end_is_told_and_remembered_or_forgotten(
    stage: Stage, store: StreamStore, step: str, *, kept: bool
) -> None:
    entry_id = await stage.held()
    await _remember(stage, entry_id)
    closed = {"entry": entry_id, "id": "c1", "args": "aa", "reply": ["v", "1"]}
    async with stage.redis.pubsub() as listening:
        await listening.subscribe(stage.keys.once("k"))
        await listening.get_message(timeout=5)
        await _end(stage, store, entry_id, step, kept=kept)
        message = await listening.get_message(timeout=5)

    assert message is not None
    assert json.loads(message["data"]) == closed
    assert await _record(stage) == (closed if kept else None)
    if kept:
        assert 40_000 < await stage.call("PTTL", stage.keys.once("k")) <= 50_000


@steps
@pytest.mark.parametrize("how", LOST)
async def test_the_end_of_what_is_no_longer_ours_is_not_remembered(
    stage: Stage, store: StreamStore, step: str, how: str
) -> None:
    entry_id = await stage.held()
    await _remember(stage, entry_id)
    await stage.lose(entry_id, how)
    before = await _record(stage)
    await _end(stage, store, entry_id, step)

    assert await _record(stage) == before


@steps
async def test_the_record_of_another_call_is_left_alone(stage: Stage, store: StreamStore, step: str) -> None:
    entry_id = await stage.held()
    await _remember(stage, "1-1")
    await _end(stage, store, entry_id, step, kept=False)

    assert await _record(stage) == {"entry": "1-1", "id": "c1", "args": "aa"}


@steps
async def test_what_is_remembered_is_not_written_again(stage: Stage, store: StreamStore, step: str) -> None:
    entry_id = await stage.held()
    closed = {"entry": entry_id, "id": "c1", "args": "aa", "reply": ["first"]}
    await stage.call("SET", stage.keys.once("k"), json.dumps(closed, separators=(",", ":")), "PX", 50_000)
    await _end(stage, store, entry_id, step, kept=False)

    assert await _record(stage) == closed


@steps
async def test_a_record_that_has_expired_does_not_come_back(stage: Stage, store: StreamStore, step: str) -> None:
    await _end(stage, store, await stage.held(), step)

    assert await stage.call("EXISTS", stage.keys.once("k")) == 0


async def test_records_of_a_batch_are_each_its_own_and_harm_no_neighbour(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held() for _ in range(4)]
    await _remember(stage, ids[0], "a")
    await stage.call("LPUSH", stage.keys.once("b"), "something else")
    await stage.call("EXPIRE", stage.keys.once("b"), 60)
    await _remember(stage, ids[2], "c")
    for one in ids:
        await stage.mark(one)
    batch = [
        Settlement(ids[0], 1, True, stage.reply_to, *filled("id", "c0"), Ending("a", True, b'["0"]')),
        Settlement(ids[1], 1, True, stage.reply_to, *filled("id", "c1"), Ending("b", True, b'["1"]')),
        Settlement(ids[2], 1, True, None, NOTHING, (), Ending("c", True, b'["2"]')),
        Settlement(ids[3], 1, True, stage.keys.replies("x"), *filled("id", "c3")),
    ]

    assert await store.settle(1, batch, held=4) == [Settled.DONE] * 4
    assert [(await _record(stage, name))["reply"] for name in ("a", "c")] == [["0"], ["2"]]
    assert [reply["id"] for reply in await stage.entries(stage.reply_to)] == ["c0", "c1"]
    assert await stage.entries(stage.keys.replies("x")) == [{"id": "c3"}]
    assert await stage.fields(stage.keys.attempts) == {}


async def test_a_reply_that_cannot_be_written_leaves_the_record_to_the_dead_letter(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held()
    await _remember(stage, entry_id)
    reply_to = stage.keys.replies("on-purpose")
    await stage.call("SET", reply_to, "no stream")
    ending = Ending("k", True, REPLY.encode())

    assert await store.settle(1, [Settlement(entry_id, 1, False, reply_to, *filled("id", "c1"), ending)], held=1) == [
        Settled.UNWRITABLE
    ]
    assert "reply" not in await _record(stage)


async def test_dead_letters_that_cannot_be_written_leave_the_record_open(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await _remember(stage, entry_id)
    await stage.call("SET", stage.keys.dead_letters, "no stream")
    ending = Ending("k", True, REPLY.encode())
    about = ["dlq.id", entry_id, "dlq.reason", "tool_failed"]

    burial = Burial(entry_id, 1, "tool_failed", "tool_error", about, ending=ending)
    assert (await store.quarantine(burial)).status == Quarantined.UNWRITABLE
    assert "reply" not in await _record(stage)
