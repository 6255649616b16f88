"""dlq export: what lies among the dead letters, byte for byte."""

from __future__ import annotations

import base64
import json
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import ended
from tests.cli.letters import about_fields, add, bury, fill
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from tests.cli.commands import Ended, Shell
    from tests.support.plane import Plane

PACKED = b"\x92\xa4tool\xa4echo"


def _lines(told: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines()]


def _parts(pairs: list[list[Any]]) -> list[bytes]:
    """Read exported pairs back, as the help says."""
    return [
        base64.b64decode(part["base64"]) if isinstance(part, dict) else part.encode() for pair in pairs for part in pair
    ]


def _written(shell: Shell) -> int:
    return sum(path.stat().st_size for path in shell.folder.iterdir())


async def _stored(plane: Plane) -> dict[str, list[bytes]]:
    raw: Any = await plane.redis.execute_command("XRANGE", plane.keys.dead_letters, "-", "+")
    return {letter_id.decode(): fields for letter_id, fields in raw}


async def test_every_byte_is_exported_in_its_order_and_twice_if_it_is_there_twice(plane: Plane, shell: Shell) -> None:
    await bury(plane, "tool", "echo", b"\xff\x00", b"\x80", "a", "1", "a", "2", "é\u2028", 'x"\n\x00')
    await add(plane, "somebody", b"else's \xff")
    await add(plane, "dlq.raw", PACKED, *about_fields({"id": "1-1", "reason": "malformed"}))
    done = await shell.run("dlq", "export")

    told = {line["id"]: line for line in _lines(done.out)}
    assert (done.code, done.err) == (0, "")
    assert {letter_id: _parts(line["fields"]) for letter_id, line in told.items()} == await _stored(plane)
    first, foreign, whole = told.values()
    assert (first["tool"], first["reason"], first["fingerprint"]) == ("echo", "worker_lost", "f" * 16)
    assert [("unreadable" in line, "original" in line) for line in (first, foreign, whole)] == [
        (False, False), (True, False), (True, True),
    ]  # fmt: skip
    assert whole["original"] == [["tool", "echo"]]


async def test_only_what_matches_is_exported_and_what_cannot_be_read_is_said(plane: Plane, shell: Shell) -> None:
    await bury(plane)
    wanted = await bury(plane, "tool", "search", fingerprint="a" * 16)
    foreign = await add(plane, "somebody", "else's")
    done = await shell.run(*f"dlq export --tool search --fingerprint {'a' * 16}".split())

    assert [line["id"] for line in _lines(done.out)] == [wanted]
    assert (done.code, foreign in done.sentence) == (0, True)


async def test_a_file_is_made_for_its_owner_alone_and_is_never_written_over(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane)
    made = await shell.run("dlq", "export", "--out", "letters.jsonl")
    file = shell.folder / "letters.jsonl"
    first, mode = file.read_text(), stat.S_IMODE(file.stat().st_mode)
    await bury(plane)
    again = await shell.run("dlq", "export", "--out", "letters.jsonl")
    kept = file.read_text()
    forced = await shell.run("dlq", "export", "--out", "letters.jsonl", "--force")

    assert (made.code, made.out) == (0, "1 dead letters written to letters.jsonl\n")
    assert ([line["id"] for line in _lines(first)], mode) == ([letter_id], 0o600)
    assert again.told() == (1, "letters.jsonl is there already: choose another --out, or --force")
    assert kept == first
    assert (forced.code, len(_lines(file.read_text()))) == (0, 2)
    assert [path.name for path in shell.folder.iterdir()] == ["letters.jsonl"]


@pytest.mark.parametrize("out", ["nowhere/letters.jsonl", "."])
async def test_where_nothing_can_be_written_is_said_in_one_sentence(plane: Plane, shell: Shell, out: str) -> None:
    await bury(plane)
    done = await shell.run("dlq", "export", "--out", out, "--force")

    assert (done.code, done.out) == (1, "")
    assert done.sentence.startswith((f"cannot write {out}: ", f"{out} is there already: "))


async def test_an_export_that_is_stopped_leaves_no_file(plane: Plane, shell: Shell) -> None:
    await fill(plane, 20_000)
    async with shell.started("dlq", "export", "--out", "letters.jsonl") as process:
        await eventually(lambda: _written(shell), because="some are written")
        process.send_signal(signal.SIGTERM)
        done: Ended = await ended(process)

    assert (done.out, *done.told()) == ("", 1, "stopped before the end: letters.jsonl was not written")
    assert list(shell.folder.iterdir()) == []


async def test_a_file_that_somebody_makes_meanwhile_is_not_written_over(plane: Plane, shell: Shell) -> None:
    await fill(plane, 20_000)
    file = shell.folder / "letters.jsonl"
    async with shell.started("dlq", "export", "--out", "letters.jsonl") as process:
        await eventually(lambda: list(shell.folder.iterdir()), because="it has begun")
        file.write_text("somebody's")
        done = await ended(process)

    assert (done.code, done.sentence) == (1, "cannot write letters.jsonl: File exists")
    assert (list(shell.folder.iterdir()), file.read_text()) == ([file], "somebody's")


async def test_an_export_that_redis_leaves_makes_no_file(lonely: Shell) -> None:
    done = await lonely.run("dlq", "export", "--out", "letters.jsonl")

    assert (done.code, list(lonely.folder.iterdir())) == (3, [])


async def test_no_dead_letters_are_an_empty_export(plane: Plane, shell: Shell) -> None:
    done = await shell.run("dlq", "export")

    assert (done.code, done.out, done.err) == (0, "", "")
    assert await plane.dead_letters() == []
