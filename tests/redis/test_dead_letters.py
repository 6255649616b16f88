"""letters, replay, discard: what operators do with dead letters."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from toolspan.codec import MAX_FIELDS
from toolspan.errors import MalformedEntryError, NotReplayableError, WrongTypeError
from toolspan.operate.dead_letters import replay
from toolspan.store import DeadLetterStore
from toolspan.store.steps import Burial

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.model import DeadLetter
    from toolspan.store import Connection
    from toolspan.testing import Recorder


@pytest.fixture
def letters(stage: Stage, connection: Connection) -> DeadLetterStore:
    return DeadLetterStore(connection, stage.keys)


async def _bury(stage: Stage, *fields: str | bytes) -> str:
    entry_id = await stage.held(fields=fields or ("tool", "echo"))
    about = ["dlq.id", entry_id, "dlq.reason", "worker_lost", "dlq.error_type", "quarantined"]
    about += ["dlq.error_message", "why", "dlq.consumer", "me", "dlq.fingerprint", "f"]
    await stage.store().quarantine(Burial(entry_id, 1, "worker_lost", "worker_lost", about))
    return entry_id


async def _all(letters: DeadLetterStore) -> list[DeadLetter]:
    return [letter async for letter in letters.all()]


async def _only(letters: DeadLetterStore) -> DeadLetter:
    [letter] = await _all(letters)
    return letter


async def test_dead_letters_come_oldest_first(stage: Stage, letters: DeadLetterStore) -> None:
    ids = [await _bury(stage) for _ in range(3)]

    assert [letter.entry_id for letter in await _all(letters)] == ids


async def test_all_pages_are_read(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    await stage.call("EVAL", _COPIES, 1, stage.keys.dead_letters, 450)

    found = await _all(letters)

    assert len(found) == 451
    assert len({letter.id for letter in found}) == 451


async def test_what_is_no_dead_letter_of_ours_is_left_out(stage: Stage, letters: DeadLetterStore) -> None:
    await stage.call("XADD", stage.keys.dead_letters, "*", "somebody", "else's")
    entry_id = await _bury(stage)

    assert [letter.entry_id for letter in await _all(letters)] == [entry_id]


async def test_one_dead_letter_is_found_by_its_id(stage: Stage, letters: DeadLetterStore) -> None:
    for _ in range(2):
        await _bury(stage)
    first, second = await _all(letters)

    assert await letters.one(second.id) == second
    assert await letters.one(first.id) == first
    assert await letters.one("1-1") is None


async def test_what_is_no_dead_letter_of_ours_cannot_be_shown(stage: Stage, letters: DeadLetterStore) -> None:
    foreign: bytes = await stage.call("XADD", stage.keys.dead_letters, "*", "somebody", "else's")

    with pytest.raises(MalformedEntryError):
        await letters.one(foreign.decode())


async def test_an_entry_that_was_kept_whole_is_given_byte_for_byte(stage: Stage, letters: DeadLetterStore) -> None:
    fields: list[str | bytes] = [part for number in range(3_000) for part in (f"x{number % 9}", b"\xff\x00")]
    await _bury(stage, *fields)

    assert (await _only(letters)).fields == [part if isinstance(part, bytes) else part.encode() for part in fields]


async def test_a_replay_is_a_call_in_place_of_the_dead_letter(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    kept = await _bury(stage)
    letter = (await _all(letters))[0]
    fields = [b"tool", b"echo", b"\xff", b"\x00", b"a", b"1", b"a", b"2"]
    entry_id = await letters.replay(letter, call_id="new", fields=fields, who="ada")

    assert entry_id is not None
    assert await stage.call("XRANGE", stage.keys.calls, "-", "+") == [[entry_id.encode(), fields]]
    assert [other.entry_id for other in await _all(letters)] == [kept]


async def test_it_is_written_down_who_replayed_what(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    letter = await _only(letters)
    before = await stage.now_ms()
    entry_id = await letters.replay(letter, call_id="new", fields=["tool", "echo"], who="ada")
    after = await stage.now_ms()

    [audit] = await stage.entries(stage.keys.audit)
    assert before <= int(audit.pop("at")) <= after
    assert audit == {
        "action": "replay", "who": "ada", "dead_letter": letter.id, "dlq.id": letter.entry_id,
        "call": "new", "entry": entry_id,
    }  # fmt: skip
    assert (await stage.events())[-1] == {
        "event": "replayed", "entry": entry_id, "consumer": "ada", "attempt": "0", "reason": letter.id,
    }  # fmt: skip


async def test_a_dead_letter_is_replayed_once(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    letter = await _only(letters)
    await letters.replay(letter, call_id="new", fields=["tool", "echo"], who="ada")
    before = await stage.everything()

    assert await letters.replay(letter, call_id="newer", fields=["tool", "echo"], who="bob") is None
    assert await stage.everything() == before


async def test_a_replay_that_is_refused_costs_no_dead_letter(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    letter = await _only(letters)
    await stage.call("SET", stage.keys.calls, "not a stream")
    before = await stage.everything()
    with pytest.raises(WrongTypeError):
        await letters.replay(letter, call_id="new", fields=["tool", "echo"], who="ada")

    assert await stage.everything() == before


async def test_a_discarded_dead_letter_is_gone_and_it_is_known_why(stage: Stage, letters: DeadLetterStore) -> None:
    for _ in range(2):
        await _bury(stage)
    first, second = await _all(letters)
    before = await stage.now_ms()
    assert await letters.discard(first.id, who="ada", why="a test")
    after = await stage.now_ms()

    [audit] = await stage.entries(stage.keys.audit)
    assert before <= int(audit.pop("at")) <= after
    assert audit == {"action": "discard", "who": "ada", "dead_letter": first.id, "why": "a test"}
    assert [letter.id for letter in await _all(letters)] == [second.id]


async def test_what_was_not_there_is_not_discarded(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    before = await stage.everything()

    assert not await letters.discard("1-1", who="ada", why="a test")
    assert await stage.everything() == before


@pytest.mark.parametrize("act", ["replay", "discard"])
async def test_an_audit_that_cannot_be_written_stops_nobody(stage: Stage, letters: DeadLetterStore, act: str) -> None:
    await _bury(stage)
    letter = await _only(letters)
    await stage.call("SET", stage.keys.audit, "not a stream")
    if act == "replay":
        await letters.replay(letter, call_id="new", fields=["tool", "echo"], who="ada")
    else:
        await letters.discard(letter.id, who="ada", why="a test")

    assert await _all(letters) == []


@pytest.mark.parametrize("act", ["replay", "discard"])
async def test_the_audit_is_capped(stage: Stage, letters: DeadLetterStore, act: str) -> None:
    await _bury(stage)
    letter = await _only(letters)
    await stage.call("EVAL", _FILL, 1, stage.keys.audit)
    if act == "replay":
        await letters.replay(letter, call_id="new", fields=["tool", "echo"], who="ada")
    else:
        await letters.discard(letter.id, who="ada", why="a test")

    assert await stage.call("XLEN", stage.keys.audit) <= 10_100


@pytest.mark.parametrize("packed", [b"\xc1", b"", b"\x01", b"\xc0", b"\xa1a", b"\x91\x01", b"\x91\x90", b"\x80"])
async def test_a_whole_entry_that_cannot_be_unpacked_hides_no_other(
    stage: Stage, letters: DeadLetterStore, packed: bytes
) -> None:
    about = ["dlq.id", "1-0", "dlq.reason", "malformed", "dlq.error_type", "malformed", "dlq.error_message", "why"]
    about += ["dlq.consumer", "me", "dlq.at", "1", "dlq.fingerprint", "f"]
    strange: bytes = await stage.call("XADD", stage.keys.dead_letters, "*", "dlq.raw", packed, *about)
    entry_id = await _bury(stage)
    left_out: list[str] = []

    assert [letter.entry_id async for letter in letters.all(left_out)] == [entry_id]
    assert left_out == [strange.decode()]
    with pytest.raises(MalformedEntryError, match="cannot be unpacked"):
        await letters.one(strange.decode())


@pytest.mark.parametrize("why", ["outgrown", "many fields"])
async def test_what_a_worker_would_refuse_is_not_replayed_and_stays(
    stage: Stage, letters: DeadLetterStore, recorder: Recorder, why: str
) -> None:
    if why == "outgrown":
        room = stage.plane.codec.limits.args_bytes - len('{"tool":"echo","args":{"x":""}}')
        await _bury(stage, "payload", '{"tool":"echo","args":{"x":"%s"}}' % ("a" * room))
    else:
        more = [part for number in range(5_000) for part in (f"x{number}", "")]
        await _bury(stage, "v", "1", "id", "c1", "tool", "echo", "args", "{}", *more)
    letter = await _only(letters)
    before = await stage.everything()
    with pytest.raises(NotReplayableError, match="are allowed"):
        await replay(letters, letter, recorder.probe, codec=stage.plane.codec, who="ada")

    assert await stage.everything() == before


async def test_as_many_fields_are_replayed_as_the_codec_allows(stage: Stage, letters: DeadLetterStore) -> None:
    await _bury(stage)
    fields = [part for number in range(MAX_FIELDS) for part in (f"x{number}", "")]

    assert await letters.replay(await _only(letters), call_id="new", fields=fields, who="ada")


async def test_operators_are_told_what_a_list_leaves_out(stage: Stage) -> None:
    entry_id = await _bury(stage)
    strange: bytes = await stage.call("XADD", stage.keys.dead_letters, "*", "somebody", "else's")
    settings = stage.plane.settings
    environment = {**os.environ, "TOOLSPAN_REDIS_URL": settings.redis_url, "TOOLSPAN_PREFIX": settings.prefix}
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "toolspan", "dlq", "ls", "--json"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await command.communicate()

    assert [letter["entry_id"] for letter in json.loads(out)] == [entry_id]
    assert strange.decode() in err.decode()
    assert command.returncode == 0


async def test_a_page_of_large_ones_has_fewer(stage: Stage, letters: DeadLetterStore) -> None:
    # Whichever test is the first has the script loaded, which counts as well.
    assert await _all(letters) == []
    for _ in range(8):
        await _bury(stage, "tool", "echo", "args", "x" * 400_000)
    asked = await _scripts_run(stage)

    assert len(await _all(letters)) == 8
    # Three of them are more than a page has; and the last page is empty.
    assert await _scripts_run(stage) - asked == 4


async def test_a_page_has_no_more_than_were_asked_for(stage: Stage, letters: DeadLetterStore) -> None:
    ids = [await _bury(stage) for _ in range(3)]

    page = await letters._page("-", "+", 2)
    assert [entry.letter.entry_id for entry in page if entry.letter] == ids[:2]


async def test_what_was_not_kept_whole_is_not_unpacked(stage: Stage, letters: DeadLetterStore) -> None:
    strange: bytes = await stage.call("XADD", stage.keys.dead_letters, "*", "somebody", b"\x92\xa1a\xa1b")

    entry = await letters.entry(strange.decode())
    assert entry is not None
    assert entry.original is None


async def test_none_is_read_beyond_the_one_that_was_the_last(stage: Stage, letters: DeadLetterStore) -> None:
    ids = [await _bury(stage) for _ in range(3)]
    last = await letters.last_id()
    await _bury(stage)

    assert last is not None
    assert [letter.entry_id async for letter in letters.all(through=last)] == ids


async def test_the_last_one_from_before_a_moment_is_found(stage: Stage, letters: DeadLetterStore) -> None:
    assert await letters.last_id() is None
    for letter_id in ("5-1", "5-2", "7-0"):
        await stage.call("XADD", stage.keys.dead_letters, letter_id, "what", "ever")

    assert await letters.last_id() == "7-0"
    assert [await letters.last_id(before_ms=moment) for moment in (-1, 0, 5, 6, 7, 8)] == [
        None, None, None, "5-2", "5-2", "7-0",
    ]  # fmt: skip


async def test_it_is_written_down_by_which_filters_one_was_chosen(stage: Stage, letters: DeadLetterStore) -> None:
    for _ in range(2):
        await _bury(stage)
    first, second = await _all(letters)
    await letters.replay(first, call_id="new", fields=["tool", "echo"], who="ada", matching="tool=echo")
    await letters.discard(second.id, who="ada", why="a test", matching="reason=worker_lost")

    assert [entry["matching"] for entry in await stage.entries(stage.keys.audit)] == ["tool=echo", "reason=worker_lost"]


async def test_a_purge_deletes_in_steps_up_to_the_last_and_is_one_entry_of_the_audit(
    stage: Stage, letters: DeadLetterStore
) -> None:
    await stage.call("EVAL", _OLD, 1, stage.keys.dead_letters, 1_230)
    await stage.call("XADD", stage.keys.dead_letters, "6-0", "what", "ever")
    steps = [count async for count in letters.purge(through="5-1230", who="ada", why="old", matching="older")]

    assert steps[-1] == 1_230
    assert all(0 < after - before <= 500 for before, after in pairwise([0, *steps]))
    assert [entry.id async for entry in letters.entries()] == ["6-0"]
    [audit] = await stage.entries(stage.keys.audit)
    assert int(audit.pop("at")) > 0
    assert audit == {
        "action": "purge", "who": "ada", "count": "1230", "up_to": "5-1230", "why": "old", "matching": "older",
    }  # fmt: skip


async def test_a_purge_that_nobody_goes_on_with_is_written_down_as_far_as_it_came(
    stage: Stage, letters: DeadLetterStore
) -> None:
    await stage.call("EVAL", _OLD, 1, stage.keys.dead_letters, 1_230)
    purging = letters.purge(through="5-1230", who="ada", why="old", matching="older")
    counts = [await anext(purging), await anext(purging)]

    assert await stage.call("XLEN", stage.keys.dead_letters) == 1_230 - counts[-1]
    assert [entry["count"] for entry in await stage.entries(stage.keys.audit)] == [str(counts[-1])]


async def test_a_purge_of_nothing_writes_nothing(stage: Stage, letters: DeadLetterStore) -> None:
    await stage.call("XADD", stage.keys.dead_letters, "6-0", "what", "ever")
    before = await stage.everything()

    assert [count async for count in letters.purge(through="5-9", who="ada", why="old", matching="older")] == []
    assert await stage.everything() == before


async def test_a_purge_goes_on_where_the_audit_cannot_be_written(stage: Stage, letters: DeadLetterStore) -> None:
    await stage.call("EVAL", _OLD, 1, stage.keys.dead_letters, 1_230)
    await stage.call("SET", stage.keys.audit, "not a stream")
    steps = [count async for count in letters.purge(through="5-1230", who="ada", why="old", matching="older")]

    assert steps[-1] == 1_230


async def test_what_was_noted_of_a_purge_stays_where_no_more_can_be(stage: Stage, letters: DeadLetterStore) -> None:
    await stage.call("EVAL", _OLD, 1, stage.keys.dead_letters, 1_230)
    purging = letters.purge(through="5-1230", who="ada", why="old", matching="older")
    first = await anext(purging)
    last_id = 2**64 - 1
    await stage.call("XSETID", stage.keys.audit, f"{last_id}-{last_id}")

    assert [count async for count in purging][-1] == 1_230
    assert [entry["count"] for entry in await stage.entries(stage.keys.audit)] == [str(first)]


async def test_a_purge_of_nodes_that_are_larger_than_a_step_goes_one_by_one(
    stage: Stage, letters: DeadLetterStore
) -> None:
    await stage.call("CONFIG", "SET", "stream-node-max-entries", "0", "stream-node-max-bytes", "0")
    try:
        await stage.call("EVAL", _OLD, 1, stage.keys.dead_letters, 1_230)
    finally:
        await stage.call("CONFIG", "SET", "stream-node-max-entries", "100", "stream-node-max-bytes", "4096")
    steps = [count async for count in letters.purge(through="5-1230", who="ada", why="old", matching="older")]

    assert steps[-1] == 1_230
    assert all(0 < after - before <= 500 for before, after in pairwise([0, *steps]))


async def _scripts_run(stage: Stage) -> int:
    stats = await stage.call("INFO", "commandstats")
    return int(stats["cmdstat_evalsha"]["calls"]) if "cmdstat_evalsha" in stats else 0


_OLD = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '5-' .. i, 'what', 'ever') end"
_COPIES = """
local fields = redis.call('XRANGE', KEYS[1], '-', '+')[1][2]
for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(fields)) end
"""
_FILL = "for i = 1, 10500 do redis.call('XADD', KEYS[1], '*', 'action', 'old') end"
