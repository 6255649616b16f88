"""settle: many replies and acknowledgements, as one step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.redis.stage import LOST, filled
from toolspan.codec import NOTHING, Form
from toolspan.errors import WrongTypeError
from toolspan.store.steps import Settled, Settlement

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import StreamStore

REPLY_TTL_MS = 600_000


def _settlement(stage: Stage, entry_id: str, attempt: int = 1, *, recorded: bool = False) -> Settlement:
    return Settlement(entry_id, attempt, recorded, stage.reply_to, *filled("id", entry_id, "status", "ok"))


async def _replied(stage: Stage) -> list[str]:
    return [reply["id"] for reply in await stage.entries(stage.reply_to)]


async def test_a_settled_call_is_answered_and_gone(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    reply: list[str | bytes] = ["id", "c1", b"result", b"\xff\x00", "id", "again"]

    batch = [Settlement(entry_id, 1, False, stage.reply_to, *filled(*reply))]
    assert await store.settle(1, batch, held=1) == [Settled.DONE]
    [[_, written]] = await stage.call("XRANGE", stage.reply_to, "-", "+")
    assert written == [b"id", b"c1", b"result", b"\xff\x00", b"id", b"again"]
    assert await stage.plane.pending() == {}
    assert await stage.plane.left() == 0


async def test_fire_and_forget_is_settled_in_silence(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    answered = await stage.held()
    batch = [Settlement(entry_id, 1, False, None, NOTHING, ()), _settlement(stage, answered)]

    assert await store.settle(1, batch, held=2) == [Settled.DONE, Settled.DONE]
    assert await _replied(stage) == [answered]
    assert await stage.plane.left() == 0


async def test_entries_that_have_nothing_in_common_are_settled_together(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held(attempt=attempt) for attempt in (1, 2, 1, 3, 1)]
    await stage.note(ids[2], {"consumer": "me", "attempt": 1, "start": 1})
    replies: list[list[str | bytes]] = [
        ["id", ids[0], "result", "1"],
        ["id", ids[1], "error", "2", "traceparent", "t"],
        ["id", ids[2]],
        [],
        ["id", ids[4], "result", "5"],
    ]
    batch = [
        Settlement(ids[0], 1, False, stage.reply_to, *filled(*replies[0])),
        Settlement(ids[1], 2, False, stage.reply_to, *filled(*replies[1])),
        Settlement(ids[2], 1, True, stage.keys.replies("b"), *filled(*replies[2])),
        Settlement(ids[3], 3, False, None, *filled(*replies[3])),
        Settlement(ids[4], 1, False, stage.reply_to, *filled(*replies[4])),
    ]

    assert await store.settle(1, batch, held=5) == [Settled.DONE] * 5
    assert await stage.entries(stage.reply_to) == [
        {"id": ids[0], "result": "1"},
        {"id": ids[1], "error": "2", "traceparent": "t"},
        {"id": ids[4], "result": "5"},
    ]
    assert await stage.entries(stage.keys.replies("b")) == [{"id": ids[2]}]
    assert await stage.attempts(ids[2]) == []
    assert await stage.plane.left() == 0


async def test_what_replies_have_in_common_stands_in_each_of_them(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held() for _ in range(4)]
    ok, failed = Form("v", "1", "id", None, "empty", "", "result", None), Form("error", None, "v", "1")
    batch = [
        Settlement(ids[0], 1, False, stage.reply_to, ok, ("a", "1")),
        Settlement(ids[1], 1, False, stage.reply_to, failed, ("no",)),
        Settlement(ids[2], 1, False, stage.reply_to, ok, ("b", "2")),
        Settlement(ids[3], 1, False, stage.reply_to, Form("all", "alike"), ()),
    ]

    assert await store.settle(1, batch, held=4) == [Settled.DONE] * 4
    assert await stage.entries(stage.reply_to) == [
        {"v": "1", "id": "a", "empty": "", "result": "1"},
        {"error": "no", "v": "1"},
        {"v": "1", "id": "b", "empty": "", "result": "2"},
        {"all": "alike"},
    ]


async def test_each_reply_goes_to_its_own_stream(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held() for _ in range(4)]
    streams = [stage.keys.replies(name) for name in ("a", "b", "a", "c")]
    batch = [Settlement(i, 1, False, s, *filled("id", i)) for i, s in zip(ids, streams, strict=True)]
    await store.settle(1, batch, held=4)

    assert [await stage.entries(stage.keys.replies(name)) for name in ("a", "b", "c")] == [
        [{"id": ids[0]}, {"id": ids[2]}],
        [{"id": ids[1]}],
        [{"id": ids[3]}],
    ]


@pytest.mark.parametrize("how", LOST)
async def test_a_result_of_what_is_no_longer_ours_is_not_written(stage: Stage, store: StreamStore, how: str) -> None:
    entry_id = await stage.held()
    await stage.mark(entry_id)
    await stage.lose(entry_id, how)
    before = await stage.everything()
    statuses = await store.settle(1, [_settlement(stage, entry_id, recorded=True)], held=1)
    after = await stage.everything()

    assert statuses == [Settled.NOT_OURS]
    # The answer of the batch is kept, and nothing else.
    del after[stage.keys.worker("me")]
    assert after == before
    await stage.call("DEL", stage.keys.attempts)


async def test_one_refusal_harms_no_neighbour(stage: Stage, store: StreamStore) -> None:
    first, lost, last = [await stage.held() for _ in range(3)]
    await stage.lose(lost, "another owner")
    statuses = await store.settle(1, [_settlement(stage, i) for i in (first, lost, last)], held=3)

    assert statuses == [Settled.DONE, Settled.NOT_OURS, Settled.DONE]
    assert await _replied(stage) == [first, last]
    assert await stage.plane.pending() == {lost: ("other", 1)}


async def test_a_reply_that_cannot_be_written_harms_no_neighbour(stage: Stage, store: StreamStore) -> None:
    wrong = stage.keys.replies("on-purpose")
    await stage.call("SET", wrong, "not a stream")
    first, bad, last = [await stage.held() for _ in range(3)]
    await stage.note(bad, {"consumer": "me", "attempt": 1, "start": 1})
    batch = [_settlement(stage, first), Settlement(bad, 1, True, wrong, *filled("id", bad)), _settlement(stage, last)]

    assert await store.settle(1, batch, held=3) == [Settled.DONE, Settled.UNWRITABLE, Settled.DONE]
    assert await _replied(stage) == [first, last]
    assert await stage.plane.pending() == {bad: ("me", 1)}
    assert await stage.plane.left() == 1
    assert len(await stage.attempts(bad)) == 1
    assert await stage.call("PTTL", wrong) == -1


async def test_other_calls_of_ours_may_lie_between(stage: Stage, store: StreamStore) -> None:
    first = await stage.held()
    between = [await stage.held() for _ in range(5)]
    last = await stage.held()
    # More than we believe to hold: their hand-over was lost on the way.
    statuses = await store.settle(1, [_settlement(stage, first), _settlement(stage, last)], held=2)

    assert statuses == [Settled.DONE, Settled.DONE]
    assert await stage.plane.pending() == dict.fromkeys(between, ("me", 1))


async def test_ids_of_any_shape_are_settled_together(stage: Stage, store: StreamStore) -> None:
    ids = ["9-1", "9-10", "10-2"]
    for entry_id in ids:
        await stage.call("XADD", stage.keys.calls, entry_id, "tool", "echo")
        await stage.hold(entry_id, "me")

    assert await store.settle(1, [_settlement(stage, i) for i in sorted(ids)], held=3) == [Settled.DONE] * 3


async def test_a_whole_batch_is_settled(stage: Stage, store: StreamStore) -> None:
    ids = [await stage.held() for _ in range(100)]

    assert await store.settle(1, [_settlement(stage, i) for i in ids], held=100) == [Settled.DONE] * 100
    assert await _replied(stage) == ids
    assert await stage.plane.left() == 0


async def test_a_batch_that_is_asked_for_again_gives_the_same_answer(stage: Stage, store: StreamStore) -> None:
    mine, lost = [await stage.held() for _ in range(2)]
    await stage.lose(lost, "another owner")
    batch = [_settlement(stage, mine), _settlement(stage, lost)]
    await store.settle(7, batch, held=2)
    before = await stage.everything()

    assert await store.settle(7, batch, held=2) == [Settled.DONE, Settled.NOT_OURS]
    assert await stage.everything() == before


async def test_the_next_batch_is_a_batch_of_its_own(stage: Stage, store: StreamStore) -> None:
    first, second = [await stage.held() for _ in range(2)]
    await store.settle(12, [_settlement(stage, first)], held=2)

    # A number that the last one begins with is another number.
    assert await store.settle(1, [_settlement(stage, second)], held=1) == [Settled.DONE]
    assert await _replied(stage) == [first, second]


async def test_the_answer_of_the_last_batch_expires_with_the_registration(stage: Stage, store: StreamStore) -> None:
    await store.settle(7, [_settlement(stage, await stage.held())], held=1)

    assert await stage.fields(stage.keys.worker("me")) == {"batch": "7:1"}
    assert 30_000 < await stage.call("PTTL", stage.keys.worker("me")) <= 60_000


async def test_every_reply_renews_the_time_to_live_of_its_stream(stage: Stage, store: StreamStore) -> None:
    await store.settle(1, [_settlement(stage, await stage.held())], held=1)
    await stage.call("PEXPIRE", stage.reply_to, 5_000)
    await store.settle(2, [_settlement(stage, await stage.held())], held=1)

    assert 5_000 < await stage.call("PTTL", stage.reply_to) <= REPLY_TTL_MS


async def test_a_reply_stream_that_nobody_reads_stays_within_its_limit(stage: Stage) -> None:
    store = stage.store(reply_maxlen=100)
    for number in range(4):
        ids = [await stage.held() for _ in range(100)]
        await store.settle(number, [_settlement(stage, i) for i in ids], held=100)

    # Redis trims whole nodes of a hundred.
    assert 100 <= await stage.call("XLEN", stage.reply_to) <= 200
    assert (await _replied(stage))[-1] == ids[-1]


async def test_replies_within_the_limit_are_all_kept(stage: Stage, store: StreamStore) -> None:
    """However much fewer kinds of them there are."""
    for number in range(3):
        ids = [await stage.held() for _ in range(100)]
        await store.settle(number, [_settlement(stage, i) for i in ids], held=100)

    assert await stage.call("XLEN", stage.reply_to) == 300


async def test_what_is_on_record_ends_with_the_call(stage: Stage, store: StreamStore) -> None:
    ended, other = [await stage.held() for _ in range(2)]
    for entry_id in (ended, other):
        await stage.note(entry_id, {"consumer": "me", "attempt": 1, "start": 1})
        await stage.mark(entry_id)
    await store.settle(1, [_settlement(stage, ended, recorded=True)], held=2)

    assert set(await stage.fields(stage.keys.attempts)) == {other, f"{other}:mark"}


async def test_nothing_is_looked_for_where_nothing_was_recorded(stage: Stage, store: StreamStore) -> None:
    # For an ordinary quick call that would be one command more.
    entry_id = await stage.held()
    await stage.mark(entry_id)
    await store.settle(1, [_settlement(stage, entry_id)], held=1)

    assert set(await stage.fields(stage.keys.attempts)) == {f"{entry_id}:mark"}
    await stage.call("DEL", stage.keys.attempts)


async def test_records_that_cannot_be_removed_keep_no_call(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.attempts, "not a hash", "EX", 60)

    assert await store.settle(1, [_settlement(stage, entry_id, recorded=True)], held=1) == [Settled.DONE]
    assert await stage.plane.left() == 0


async def test_a_call_without_a_body_is_answered_all_the_same(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.delete_body(entry_id)

    assert await store.settle(1, [_settlement(stage, entry_id)], held=1) == [Settled.DONE]
    assert await _replied(stage) == [entry_id]
    assert await stage.plane.pending() == {}


async def test_a_group_made_anew_is_waited_for(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.recreate_group()
    before = await stage.everything()
    statuses = await store.settle(1, [_settlement(stage, entry_id)], held=1)
    after = await stage.everything()

    assert statuses == [Settled.UNDELIVERED]
    del after[stage.keys.worker("me")]
    assert after == before


async def test_what_a_group_made_anew_cannot_hand_out_is_not_waited_for(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.recreate_group()
    await stage.delete_body(entry_id)

    assert await store.settle(1, [_settlement(stage, entry_id)], held=1) == [Settled.NOT_OURS]


async def test_a_registration_of_a_wrong_type_stops_a_batch_before_anything_is_written(
    stage: Stage, store: StreamStore
) -> None:
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.worker("me"), "not a hash", "EX", 60)
    before = await stage.everything()
    with pytest.raises(WrongTypeError):
        await store.settle(1, [_settlement(stage, entry_id)], held=1)

    assert await stage.everything() == before


@pytest.mark.parametrize("how", ["acknowledged by hand", "a group made anew at its end"])
async def test_what_the_group_has_passed_is_not_waited_for(stage: Stage, store: StreamStore, how: str) -> None:
    entry_id = await stage.held()
    await stage.pass_by(entry_id, how)

    assert await store.settle(1, [_settlement(stage, entry_id)], held=1) == [Settled.NOT_OURS]
    assert await stage.plane.replies() == []


@pytest.mark.parametrize(
    ("entry_id", "passed", "status"),
    [
        ("9-9", "10-0", Settled.NOT_OURS),
        ("10-9", "10-10", Settled.NOT_OURS),
        ("10-0", "9-9", Settled.UNDELIVERED),
        ("10-10", "10-9", Settled.UNDELIVERED),
        ("9007199254740993-0", "9007199254740992-0", Settled.UNDELIVERED),
    ],
)
async def test_entry_ids_are_compared_as_numbers(
    stage: Stage, store: StreamStore, entry_id: str, passed: str, status: int
) -> None:
    await stage.call("XADD", stage.keys.calls, entry_id, "tool", "echo")
    await stage.call("XGROUP", "SETID", stage.keys.calls, stage.keys.group, passed)

    assert await store.settle(1, [_settlement(stage, entry_id)], held=1) == [status]
