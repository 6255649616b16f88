"""dlq: dead letters, from the first look to the end of each."""

from __future__ import annotations

import os
import sys
import time
from getpass import getuser
from typing import TYPE_CHECKING

from tests.cli.commands import ended
from tests.cli.letters import audit, bury, ids
from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell
    from tests.support.plane import Plane

HOUR_MS = 3_600_000


# ── ls ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_dead_letters_are_none(plane: Plane, shell: Shell) -> None:
    ends = await shell.each("dlq ls", "dlq ls --group-by fingerprint", "dlq ls --json")
    *listed, told = ends.values()

    assert {(one.code, one.out, one.err) for one in listed} == {(0, "There are no dead letters.\n", "")}
    assert (told.code, told.json) == (0, [])
    assert await plane.dead_letters() == []


async def test_dead_letters_are_listed_oldest_first_with_nothing_cut(plane: Plane, shell: Shell) -> None:
    first = await bury(plane, message="so [red]it[/red] broke \\[sic]\nand more")
    second = await bury(plane, "payload", '{"tool": "search"}', reason="malformed", fingerprint="e" * 16)
    listed, told = (await shell.each("dlq ls", "dlq ls --json", COLUMNS="80")).values()

    rows = [line for line in listed.out.splitlines() if line.split()[:1] in ([first], [second])]
    assert (listed.code, listed.err, told.code, told.err) == (0, "", 0, "")
    assert [row.split()[0] for row in rows] == [first, second]
    assert all(part in rows[0] for part in ("echo", "worker_lost", "f" * 16, "so [red]it[/red] broke \\[sic]"))
    assert all(part in rows[1] for part in ("search", "malformed", "e" * 16))
    assert [(letter["id"], letter["tool"], letter["reason"]) for letter in told.json] == [
        (first, "echo", "worker_lost"), (second, "search", "malformed"),
    ]  # fmt: skip


async def test_a_terminal_of_eighty_columns_breaks_no_id(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane, message="the database said no " * 5, reason="outcome_unknown")
    out = await shell.shown("dlq", "ls", columns=80)

    [row] = [line for line in out.splitlines() if line.startswith(letter_id)]
    assert len(row.rstrip()) <= 80
    assert row.split()[0] == letter_id
    assert {"outcome_unknown", "f" * 16} < set(row.split())
    assert row.rstrip().endswith("…")


async def test_what_others_wrote_neither_moves_nor_colours_a_terminal(plane: Plane, shell: Shell) -> None:
    evil = "\x1b[2J\x9b1m\u202eevil"
    letter_id = await bury(
        plane, *("tool", evil, evil, evil), message=evil, consumer=evil, stack=f"Traceback\n\tat {evil}\n  boom"
    )
    listed, grouped, shown = [
        await shell.shown("dlq", *command, columns=200)
        for command in (("ls",), ("ls", "--group-by", "fingerprint"), ("show", letter_id))
    ]
    told = await shell.run("dlq", "show", letter_id, "--json")
    gone = await shell.shown("dlq", "show", evil, columns=200)

    # What is bold is ours.
    for out in (listed, grouped, shown, told.out, gone):
        assert "evil" in out
        assert [part for part in ("\x1b[2J", "\x9b", "\u202e") if part in out] == []
    assert [line.split() for line in shown.splitlines()[-3:]][::2] == [["Traceback"], ["boom"]]
    assert told.json["tool"] == told.json["error_message"] == evil


async def test_only_what_is_asked_for_is_listed(plane: Plane, shell: Shell) -> None:
    now = time.time_ns() // 1_000_000
    await bury(plane, message="old", at=str(now - 2 * HOUR_MS))
    await bury(plane, "tool", "search", message="search lost", at=str(now - HOUR_MS))
    await bury(plane, "tool", "search", message="search failed", reason="tool_failed", fingerprint="a" * 16)
    found = {
        "dlq ls --json --tool search": ["search lost", "search failed"],
        "dlq ls --json --reason tool_failed": ["search failed"],
        "dlq ls --json --since 90m": ["search lost", "search failed"],
        "dlq ls --json --since 3h --tool echo": ["old"],
        f"dlq ls --json --fingerprint {'a' * 16}": ["search failed"],
        "dlq ls --json --tool nobody.calls.it": [],
    }
    ends = await shell.each(*found)

    told = {command: [letter["error_message"] for letter in done.json] for command, done in ends.items()}
    assert told == found


async def test_dead_letters_that_do_not_match_are_not_said_to_be_none(plane: Plane, shell: Shell) -> None:
    await bury(plane)
    done = await shell.each(
        "dlq ls --tool nobody.calls.it", "dlq ls --since 1h --reason malformed --group-by fingerprint"
    )

    assert {one.out for one in done.values()} == {"No dead letter matches.\n"}


async def test_an_age_counts_from_the_clock_of_redis(plane: Plane, shell: Shell) -> None:
    seconds, _ = await plane.redis.time()
    await bury(plane, at=str(seconds * 1000 - HOUR_MS))
    # A clock that is two hours ahead would find nothing that is younger than 90 minutes.
    ahead = "import time; now = time.time_ns; time.time_ns = lambda: now() + 7_200_000_000_000; "
    program = ahead + "time.time = lambda: time.time_ns() / 1e9; from toolspan.__main__ import main; main()"
    command = (sys.executable, "-c", program, "dlq", "ls", "--since", "90m", "--json")
    async with shell.program(*command) as process:
        done = await ended(process)

    assert (done.code, len(done.json)) == (0, 1)


async def test_a_cause_is_one_row_and_the_most_frequent_comes_first(plane: Plane, shell: Shell) -> None:
    await bury(plane, "tool", "search", fingerprint="a" * 16)
    for message in ("the first", "the latest"):
        await bury(plane, message=message, fingerprint="b" * 16)
    commands = ("dlq ls --group-by fingerprint", "dlq ls --group-by fingerprint --json")
    listed, told = (await shell.each(*commands)).values()

    rows = [line.split() for line in listed.out.splitlines() if line.split()[:1] in (["a" * 16], ["b" * 16])]
    assert [row[:3] for row in rows] == [["b" * 16, "2", "echo"], ["a" * 16, "1", "search"]]
    assert [(cause["fingerprint"], cause["count"], cause["error_message"]) for cause in told.json] == [
        ("b" * 16, 2, "the latest"), ("a" * 16, 1, "its worker was lost"),
    ]  # fmt: skip


# ── show ───────────────────────────────────────────────────────────────────────────────────────────


async def test_all_that_is_known_of_a_dead_letter_is_shown(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane, "tool", "echo", "args", b"\xff{}", stack="Traceback\n  boom")
    shown, told = (await shell.each(f"dlq show {letter_id}", f"dlq show {letter_id} --json")).values()

    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert (shown.code, shown.err, told.code, told.err) == (0, "", 0, "")
    assert {f"id {letter_id}", "tool echo", "reason worker_lost", "error_message its worker was lost"} < set(lines)
    assert "attempt 1 on w-1-aa: worker_lost" in lines
    assert "field tool = echo" in lines
    assert "field args = \\xff{}" in lines
    assert lines[-2:] == ["Traceback", "boom"]
    assert (told.json["id"], told.json["entry_id"], told.json["stack"]) == (letter_id, "1-1", "Traceback\n  boom")
    assert told.json["fields"] == [["tool", "echo"], ["args", {"base64": "/3t9"}]]
    assert told.json["attempts"] == [
        {"consumer": "w-1-aa", "attempt": 1, "start": 1000, "end": 2000, "error": "worker_lost"}
    ]


async def test_what_is_not_there_is_said_in_one_sentence(plane: Plane, shell: Shell) -> None:
    kept = await bury(plane)
    commands = ("dlq show 9-9", "dlq show nonsense", "dlq replay nonsense", "dlq discard 9-9 --why old")
    for command, done in (await shell.each(*commands)).items():
        assert (done.code, done.out) == (1, ""), command
        said = f"there is no dead letter {command.split()[2]}: `toolspan dlq ls` lists them"
        assert done.sentence.startswith(said), command

    assert await ids(plane) == [kept]


async def test_a_dead_letter_is_found_by_its_entry_and_by_its_call_too(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane, "v", "1", "id", "call-1", "tool", "echo", "args", "{}", id="7-1")
    # It only mentions the ids of the other one.
    payload = '{"id": "call-2", "tool": "echo", "args": {"about": "call-1 7-1"}}'
    other = await bury(plane, "payload", payload, id="7-2")
    asked = {"7-1": letter_id, "call-1": letter_id, "call-2": other, letter_id: letter_id}
    found = await shell.each(*(f"dlq show {one} --json" for one in asked))
    replayed = await shell.run("dlq", "replay", "call-1", "--json")
    discarded = await shell.run("dlq", "discard", "7-2", "--why", "old", "--json")

    assert [done.json["id"] for done in found.values()] == list(asked.values())
    assert [one["dead_letter"] for one in replayed.json["replayed"]] == [letter_id]
    assert discarded.json["discarded"] == [other]
    assert await ids(plane) == []


async def test_an_id_that_means_several_dead_letters_ends_none_of_them(plane: Plane, shell: Shell) -> None:
    both = [await bury(plane, "v", "1", "id", "twice", "tool", "echo", "args", "{}", id=f"7-{n}") for n in (1, 2)]
    for command, done in (await shell.each("dlq discard twice --why old", "dlq replay twice")).items():
        newest_first = ", ".join(reversed(both))
        assert (done.code, done.out) == (1, ""), command
        assert done.sentence == f"twice means several dead letters, say which: {newest_first}", command

    assert await ids(plane) == both


async def test_what_became_of_a_dead_letter_that_is_gone_is_said(plane: Plane, shell: Shell) -> None:
    discarded, purged = await bury(plane, letter_id="5-1", id="3-1"), await bury(plane, letter_id="5-2", id="3-2")
    await shell.run("dlq", "discard", discarded, "--why", "test data")
    await shell.run("dlq", "purge", "--older-than", "1d", "--why", "too old")
    asked = (discarded, "3-1", purged, "3-2")
    ends = await shell.each(*(f"dlq show {one}" for one in asked))

    by = getuser()
    assert [done.sentence for done in ends.values()] == [
        f"there is no dead letter 5-1 any more: {by} discarded it: test data",
        f"there is no dead letter 3-1 any more: {by} discarded it: test data",
        f"there is no dead letter 5-2: {by} purged those up to 5-2, too old",
        f"there is no dead letter 3-2: {by} purged those up to 5-2, too old",
    ]


async def test_what_is_no_dead_letter_of_ours_is_left_alone(plane: Plane, shell: Shell) -> None:
    raw: bytes = await plane.redis.execute_command("XADD", plane.keys.dead_letters, "*", "somebody", "else's")
    foreign = raw.decode()
    for command, done in (await shell.each(f"dlq show {foreign}", f"dlq replay {foreign}")).items():
        assert (done.code, done.out) == (1, ""), command
        assert done.sentence.startswith(f"{foreign} is not a dead letter of ours"), command

    assert await plane.redis.xlen(plane.keys.dead_letters) == 1


# ── replay ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_replayed_dead_letter_runs_as_a_new_call_once(plane: Plane, shell: Shell, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    letter_id = await bury(plane, "v", "1", "id", "c1", "tool", "marked", "args", f'{{"path":"{runs}"}}')
    done = await shell.run("dlq", "replay", letter_id, "--json")
    again = await shell.run("dlq", "replay", letter_id)
    async with running_worker(toolbox.marked, settings=plane.settings):
        await eventually(runs.exists, because="the call runs again")

    [replayed] = done.json["replayed"]
    assert (done.code, done.err, done.json["refused"]) == (0, "", [])
    assert (again.code, again.out) == (1, "")
    assert again.sentence == (
        f"there is no dead letter {letter_id} any more: {getuser()} replayed it as call {replayed['call_id']}, "
        f"entry {replayed['entry_id']}"
    )
    assert len(runs.read_text().splitlines()) == 1
    assert (replayed["dead_letter"], await plane.dead_letters()) == (letter_id, [])
    [done_by] = await audit(plane)
    assert int(done_by.pop("at")) > 0
    assert done_by == {
        "action": "replay", "who": getuser(), "dead_letter": letter_id, "dlq.id": "1-1",
        "call": replayed["call_id"], "entry": replayed["entry_id"],
    }  # fmt: skip


async def test_what_may_do_harm_is_replayed_only_when_it_is_said(plane: Plane, shell: Shell) -> None:
    unknown, unsent = [await bury(plane, reason=reason) for reason in ("outcome_unknown", "reply_failed")]
    plain, *others = (
        await shell.each(
            f"dlq replay {unknown} {unsent}",
            f"dlq replay {unknown} --run-again",
            f"dlq replay {unsent} --did-not-run",
        )
    ).values()
    left = await ids(plane)
    done = await shell.each(f"dlq replay {unknown} --did-not-run", f"dlq replay {unsent} --run-again")

    assert (plain.code, plain.out) == (1, "")
    assert [line.split()[1] for line in plain.err.splitlines()] == [unknown, unsent]
    assert ["--did-not-run" in line for line in plain.err.splitlines()] == [True, False]
    assert ["--run-again" in line for line in plain.err.splitlines()] == [False, True]
    assert [(other.code, other.out) for other in others] == [(1, ""), (1, "")]
    assert left == [unknown, unsent]
    assert [(one.code, one.err) for one in done.values()] == [(0, ""), (0, "")]
    assert (await ids(plane), await plane.left()) == ([], 2)


async def test_no_word_makes_a_malformed_call_run(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane, reason="malformed")
    code, sentence = (await shell.run("dlq", "replay", letter_id, "--did-not-run", "--run-again")).told()

    assert (code, sentence) == (1, f"{letter_id} is malformed: no worker could decode it")
    assert (await ids(plane), await plane.left()) == ([letter_id], 0)


async def test_some_are_replayed_and_the_rest_is_refused_one_by_one(plane: Plane, shell: Shell) -> None:
    foreign: bytes = await plane.redis.execute_command("XADD", plane.keys.dead_letters, "*", "somebody", "else's")
    first, malformed, last = [
        await bury(plane, reason=reason) for reason in ("worker_lost", "malformed", "max_attempts")
    ]
    done = await shell.run("dlq", "replay", first, foreign.decode(), malformed, "9-9", first, last)

    assert done.code == 1
    assert [line.split()[:2] for line in done.out.splitlines()] == [[first, "replayed"], [last, "replayed"]]
    assert [line.partition(" is ")[0].removeprefix("toolspan: ") for line in done.err.splitlines()[:2]] == [
        foreign.decode(), malformed,
    ]  # fmt: skip
    assert "there is no dead letter 9-9:" in done.err
    assert [f"there is no dead letter {letter_id} any more" in done.err for letter_id in (first, last)] == [True, False]
    assert (await ids(plane), await plane.left()) == ([malformed], 2)


async def test_what_was_replayed_is_told_even_if_redis_refuses_the_rest(plane: Plane, shell: Shell) -> None:
    first = await bury(plane)
    # More fields than a script can take: Redis refuses this one, for a reason that nobody foresaw.
    huge = await bury(plane, *[f"x{number}" for number in range(2 * 9_000)])
    done = await shell.run("dlq", "replay", first, huge)

    assert done.code == 1
    assert done.out.startswith(f"{first} replayed as call ")
    assert "Traceback" not in done.err
    assert await plane.left() == 1


# ── discard ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_discarded_dead_letter_is_gone_and_it_is_known_who_did_it_and_why(plane: Plane, shell: Shell) -> None:
    letter_id, kept, second = [await bury(plane) for _ in range(3)]
    commands = (f"dlq discard {letter_id} --why 'test data'", f"dlq discard {second} --why more --json")
    done, told = (await shell.each(*commands)).values()

    assert (done.code, done.out, done.err) == (0, f"{letter_id} discarded\n", "")
    assert (told.code, told.json, told.err) == (0, {"discarded": [second], "missed": []}, "")
    assert await ids(plane) == [kept]
    written = {one["dead_letter"]: one for one in await audit(plane)}
    assert {(one["action"], one["who"]) for one in written.values()} == {("discard", getuser())}
    assert (written[letter_id]["why"], written[second]["why"], len(written)) == ("test data", "more", 2)


async def test_nothing_is_thrown_away_without_a_word_why(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane)
    for command, done in (
        await shell.each(f"dlq discard {letter_id} --why ''", "dlq purge --older-than 0s --why ' '")
    ).items():
        assert done.code == 2, command
        assert "say in some words why" in done.err, command

    assert await ids(plane) == [letter_id]


async def test_who_has_no_name_is_known_by_his_number(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane)
    nameless = "import pwd; pwd.getpwuid = {}.__getitem__; from toolspan.__main__ import main; main()"
    command = (sys.executable, "-c", nameless, "dlq", "discard", letter_id, "--why", "old")
    async with shell.program(*command, LOGNAME="", USER="", LNAME="", USERNAME="") as process:
        done = await ended(process)

    assert (done.code, done.err) == (0, "")
    assert [one["who"] for one in await audit(plane)] == [f"uid {os.getuid()}"]
