"""quarantine: an entry becomes a dead letter, and its caller is told, as one step."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.redis.stage import LOST
from toolspan.errors import WrongTypeError
from toolspan.store import DeadLetterStore
from toolspan.store.steps import Burial, Quarantined

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection, StreamStore


def _burial(entry_id: str, attempt: int = 1, *, reply_to: str | None = None) -> Burial:
    about: list[str | bytes] = ["dlq.id", entry_id, "dlq.reason", "malformed", "dlq.error_message", b"\xff\x00"]
    return Burial(entry_id, attempt, "malformed", "worker_error", about, reply_to, ["id", "c1"])


async def _letter(stage: Stage) -> list[bytes]:
    [[_, fields]] = await stage.call("XRANGE", stage.keys.dead_letters, "-", "+")
    return list(fields)


async def test_the_entry_is_kept_byte_for_byte_before_what_is_said_of_it(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held(attempt=0, fields=(b"\xff", b"\x00", "again", "1", "again", "2"))
    before = await stage.now_ms()
    assert (await store.quarantine(_burial(entry_id, 0))).status == Quarantined.DONE
    after = await stage.now_ms()

    letter = await _letter(stage)
    assert letter[:6] == [b"\xff", b"\x00", b"again", b"1", b"again", b"2"]
    assert letter[6:12] == [
        b"dlq.id", entry_id.encode(), b"dlq.reason", b"malformed", b"dlq.error_message", b"\xff\x00",
    ]  # fmt: skip
    assert letter[12] == b"dlq.at"
    assert before <= int(letter[13]) <= after
    assert letter[14:] == []


async def test_the_id_of_the_dead_letter_is_known(stage: Stage, store: StreamStore) -> None:
    buried = await store.quarantine(_burial(await stage.held()))

    [[letter_id, _]] = await stage.call("XRANGE", stage.keys.dead_letters, "-", "+")
    assert buried.letter_id == letter_id.decode()


async def test_what_the_script_knows_of_the_dead_letter_is_told_as_it_was_written(
    stage: Stage, store: StreamStore
) -> None:
    buried = await store.quarantine(_burial(await stage.held(idle_ms=60_000)))

    written = _dict(await _letter(stage))
    assert buried.added == {name: written[name] for name in ("dlq.at", "dlq.attempts", "dlq.first_delivered")}


async def test_nothing_of_the_entry_is_left(stage: Stage, store: StreamStore) -> None:
    entry_id, other = [await stage.held() for _ in range(2)]
    for one in (entry_id, other):
        await stage.note(one, {"consumer": "me", "attempt": 1, "start": 1})
        await stage.mark(one)
    await store.quarantine(_burial(entry_id))

    assert await stage.plane.pending() == {other: ("me", 1)}
    assert await stage.plane.left() == 1
    assert set(await stage.fields(stage.keys.attempts)) == {other, f"{other}:mark"}


async def test_the_caller_is_answered(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await store.quarantine(_burial(entry_id, reply_to=stage.reply_to))

    assert await stage.entries(stage.reply_to) == [{"id": "c1"}]
    assert 0 < await stage.call("PTTL", stage.reply_to) <= 600_000


async def test_nobody_is_answered_where_nobody_waits(stage: Stage, store: StreamStore) -> None:
    await store.quarantine(_burial(await stage.held()))

    assert sorted(await stage.everything()) == sorted([stage.keys.calls, stage.keys.dead_letters, stage.keys.events])


async def test_a_reply_stream_that_nobody_reads_stays_within_its_limit(stage: Stage) -> None:
    await stage.call("EVAL", _FILL, 1, stage.reply_to)
    await stage.store(reply_maxlen=100).quarantine(_burial(await stage.held(), reply_to=stage.reply_to))

    assert 100 <= await stage.call("XLEN", stage.reply_to) <= 200


async def test_a_reply_that_cannot_be_written_does_not_keep_the_entry(stage: Stage, store: StreamStore) -> None:
    wrong = stage.keys.replies("on-purpose")
    await stage.call("SET", wrong, "not a stream")

    assert (await store.quarantine(_burial(await stage.held(), reply_to=wrong))).status == Quarantined.UNANSWERED
    assert await stage.plane.left() == 0


async def test_the_last_attempt_ends_with_what_ended_it(stage: Stage, store: StreamStore) -> None:
    lost = {"consumer": "gone", "attempt": 1, "start": 11, "end": 12, "error": "worker_lost"}
    delivered_ms = await stage.now_ms() - 60_000
    entry_id = await stage.held(attempt=2, idle_ms=60_000)
    await stage.note(entry_id, lost)
    await store.quarantine(_burial(entry_id, 2))

    values = _dict(await _letter(stage))
    assert values["dlq.first_delivered"] == "11"
    kept, ended = json.loads(values["dlq.attempts"])
    assert kept == lost
    assert delivered_ms - 1 <= ended.pop("start") <= delivered_ms + 1_000
    assert delivered_ms + 60_000 <= ended.pop("end") <= delivered_ms + 61_000
    assert ended == {"consumer": "me", "attempt": 2, "error": "worker_error"}


async def test_an_attempt_that_ended_before_stays_as_it_is(stage: Stage, store: StreamStore) -> None:
    lost = {"consumer": "gone", "attempt": 4, "start": 11, "end": 12, "error": "worker_lost"}
    entry_id = await stage.held(attempt=4)
    await stage.note(entry_id, lost)
    await store.quarantine(_burial(entry_id, 4))

    assert json.loads(_dict(await _letter(stage))["dlq.attempts"]) == [lost]


async def test_a_running_attempt_on_record_ends(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.note(entry_id, {"consumer": "me", "attempt": 1, "start": 11})
    await store.quarantine(_burial(entry_id))

    [ended] = json.loads(_dict(await _letter(stage))["dlq.attempts"])
    assert (ended["start"], ended["error"]) == (11, "worker_error")
    assert ended["end"] > 11


@pytest.mark.parametrize(("count", "whole"), [(500, False), (501, True)])
async def test_an_entry_of_too_many_fields_is_kept_whole(
    stage: Stage, store: StreamStore, connection: Connection, count: int, whole: bool
) -> None:
    fields: list[str | bytes] = [part for number in range(count) for part in (f"x{number % 400}", b"\xff")]
    await store.quarantine(_burial(await stage.held(fields=tuple(fields))))

    letter = await _letter(stage)
    assert (letter[0] == b"dlq.raw") is whole
    assert await _original(stage, connection) == _bytes(fields)


async def test_an_entry_with_such_names_of_its_own_is_kept_whole(
    stage: Stage, store: StreamStore, connection: Connection
) -> None:
    fields = ("tool", "echo", "dlq.reason", "mine")
    await store.quarantine(_burial(await stage.held(fields=fields)))

    letter = await _letter(stage)
    assert letter[0] == b"dlq.raw"
    assert letter[2:6] == [b"dlq.id", letter[3], b"dlq.reason", b"malformed"]
    assert await _original(stage, connection) == _bytes(fields)


async def test_a_value_that_looks_like_such_a_name_is_only_a_value(stage: Stage, store: StreamStore) -> None:
    await store.quarantine(_burial(await stage.held(fields=("tool", "dlq.reason"))))

    assert (await _letter(stage))[:2] == [b"tool", b"dlq.reason"]


async def test_an_entry_without_a_body_is_a_dead_letter_all_the_same(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.delete_body(entry_id)

    assert (await store.quarantine(_burial(entry_id))).status == Quarantined.DONE
    assert (await _letter(stage))[:2] == [b"dlq.id", entry_id.encode()]
    assert await stage.plane.pending() == {}


async def test_what_was_quarantined_can_be_explained_later(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await store.quarantine(_burial(entry_id))

    assert await stage.events() == [
        {"event": "quarantined", "entry": entry_id, "consumer": "me", "attempt": "1", "reason": "malformed"}
    ]


@pytest.mark.parametrize("how", LOST)
async def test_what_is_no_longer_ours_is_not_quarantined(stage: Stage, store: StreamStore, how: str) -> None:
    entry_id = await stage.held()
    await stage.lose(entry_id, how)
    before = await stage.everything()

    assert (await store.quarantine(_burial(entry_id, reply_to=stage.reply_to))).status == Quarantined.NOT_OURS
    assert await stage.everything() == before


async def test_an_entry_whose_dead_letter_cannot_be_written_stays_as_it_is(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.dead_letters, "not a stream")
    before = await stage.everything()

    assert (await store.quarantine(_burial(entry_id, reply_to=stage.reply_to))).status == Quarantined.UNWRITABLE
    assert await stage.everything() == before


async def test_records_of_a_wrong_type_stop_it_before_anything_is_written(stage: Stage, store: StreamStore) -> None:
    entry_id = await stage.held()
    await stage.call("SET", stage.keys.attempts, "not a hash", "EX", 60)
    before = await stage.everything()
    with pytest.raises(WrongTypeError):
        await store.quarantine(_burial(entry_id, reply_to=stage.reply_to))

    assert await stage.everything() == before


async def _original(stage: Stage, connection: Connection) -> list[bytes]:
    """The original fields as Redis itself reads them back."""
    [entry] = [entry async for entry in DeadLetterStore(connection, stage.keys).entries()]
    return entry.fields[: _end(entry.fields)] if entry.original is None else entry.original


def _end(fields: list[bytes]) -> int:
    return next(i for i in range(0, len(fields), 2) if fields[i].startswith(b"dlq."))


def _bytes(fields: Any) -> list[bytes]:
    return [part if isinstance(part, bytes) else part.encode() for part in fields]


def _dict(fields: list[bytes]) -> dict[str, str]:
    return {n.decode(): v.decode(errors="replace") for n, v in zip(fields[::2], fields[1::2], strict=True)}


_FILL = "for i = 1, 350 do redis.call('XADD', KEYS[1], '*', 'id', 'old') end"
