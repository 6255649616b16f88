"""status, consumers, pending, explain: looking at the group from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan.cli.durations import told
from toolspan.cli.output import plain
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell
    from tests.support.plane import Plane
    from tests.support.processes import Workers


@pytest.mark.parametrize(
    ("age", "words"),
    [
        *((None, ""), (0, "0.0 s"), (3.21, "3.2 s"), (59.99, "59.9 s"), (60, "1 m 0 s"), (310, "5 m 10 s")),
        *((3_599.9, "59 m 59 s"), (7_500, "2 h 5 m"), (86_399, "23 h 59 m"), (273_600, "3 d 4 h")),
    ],
)
def test_an_age_is_said_in_the_units_that_matter(age: float | None, words: str) -> None:
    assert told(age) == words


def test_nothing_that_others_chose_moves_colours_or_reorders_a_terminal() -> None:
    assert (
        plain("a\x1b[31mb\x9b2J\r\n\u202ec\u2028\udc80é 語")
        == "a\ufffd[31mb\ufffd2J\ufffd\ufffd\ufffdc\ufffd\ufffdé 語"
    )


# ── status ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_plane_that_nobody_served_yet_is_no_error(plane: Plane, shell: Shell) -> None:
    said, told_ = (await shell.each("status", "status --json")).values()

    assert (said.code, said.err, told_.code, told_.err) == (0, "", 0, "")
    assert said.out.startswith("There is no group yet: the first worker makes it.\n")
    assert said.out.endswith("nobody need look\n")
    assert (told_.json["group"], told_.json["undelivered"], told_.json["attention"]) == (False, 0, [])
    assert await plane.redis.exists(plane.keys.calls) == 0


async def test_one_line_says_why_somebody_should_look(plane: Plane, shell: Shell) -> None:
    await plane.append("echo")
    await plane.orphan()
    await plane.append("echo", "another")
    said, told_ = (await shell.each("status", "status --json")).values()

    rows = {line.split("  ")[1].strip(): line.split() for line in said.out.splitlines() if line.startswith("  ")}
    assert (said.code, told_.code) == (0, 0)
    assert (rows["undelivered"][1], rows["pending"][1], rows["parked"][1]) == ("1", "1", "0")
    assert said.out.splitlines()[-2:] == [
        "workers: 0 live, 0 silent; room for 0 calls",
        "look: no live worker, and 2 calls wait",
    ]
    assert told_.json["attention"] == ["no live worker, and 2 calls wait"]
    assert 0 <= told_.json["oldest_pending_age"] < 60


async def test_nobody_need_look_while_workers_have_room(plane: Plane, shell: Shell) -> None:
    async with running_worker(toolbox.echo, settings=plane.settings):
        done = await shell.run("status")

    assert done.code == 0
    assert done.out.splitlines()[-2:] == ["workers: 1 live, 0 silent; room for 100 calls", "nobody need look"]


# ── consumers ──────────────────────────────────────────────────────────────────────────────────────


async def test_nobody_is_listed_where_nobody_is(plane: Plane, shell: Shell) -> None:
    listed, told_ = (await shell.each("consumers", "consumers --json")).values()

    assert (listed.code, listed.out, listed.err) == (0, "There are no workers and no consumers.\n", "")
    assert (told_.code, told_.json) == (0, [])
    assert await plane.left() == 0


async def test_a_worker_is_listed_with_what_it_runs(plane: Plane, shell: Shell, tmp_path: Path) -> None:
    release = tmp_path / "release"
    await plane.append("until", path=str(tmp_path / "runs"), release=str(release))
    async with running_worker(toolbox.until, toolbox.echo, settings=plane.settings, name="here") as worker:

        async def runs() -> bool:
            return await plane.redis.hget(plane.keys.worker(worker.consumer), "running") not in {None, b"{}"}

        await eventually(runs, because="a heartbeat tells of the call")
        await plane.redis.hset(plane.keys.worker(worker.consumer), "host", "h\x1b[2J")
        listed, told_ = (await shell.each("consumers", "consumers --json")).values()
        release.touch()
        await eventually(lambda: plane.reply("until"), because="the call ends")

    row = next(line for line in listed.out.splitlines() if worker.consumer in line)
    [one] = told_.json
    assert (listed.code, listed.err, told_.code) == (0, "", 0)
    assert all(part in row for part in ("live", "1 until", "1 of 100", " ago", "1.0 s", "echo, until"))
    assert "\x1b" not in listed.out
    assert (one["consumer"], one["state"], one["pending"]) == (worker.consumer, "live", 1)
    assert (one["running"], one["tools"], one["lease_seconds"]) == ({"until": 1}, ["echo", "until"], 1)


async def test_who_is_no_worker_is_named_for_what_it_is(plane: Plane, shell: Shell) -> None:
    await plane.append("echo")
    await plane.orphan("f\x1b[31moreign")
    await plane.append("echo", "parked")
    group = (plane.keys.calls, plane.keys.group)
    await plane.redis.execute_command("XREADGROUP", "GROUP", group[1], "~parked", "STREAMS", group[0], ">")
    await plane.redis.zadd(plane.keys.workers, {"strange": 1})
    await plane.redis.set(plane.keys.worker("strange"), "not a hash", ex=60)
    done = await shell.run("consumers")

    assert done.code == 0
    assert "\x1b" not in done.out
    assert [line.split()[:5] for line in done.out.splitlines() if line.startswith("  ")][2:-1] == [
        ["f\ufffd[31moreign", "unregistered", "1"],
        ["strange", "registration", "cannot", "be", "read"],
        ["~parked", "holds", "parked", "calls", "1"],
    ]


# ── pending ────────────────────────────────────────────────────────────────────────────────────────


async def test_where_nothing_is_pending_nothing_is_listed(plane: Plane, shell: Shell) -> None:
    no_group, told_ = (await shell.each("pending", "pending --json")).values()
    await plane.redis.execute_command("XGROUP", "CREATE", plane.keys.calls, plane.keys.group, "0", "MKSTREAM")
    listed = await shell.run("pending")

    assert (no_group.code, no_group.out) == (0, "There is no group yet: the first worker makes it.\n")
    assert (told_.code, told_.json) == (0, {"calls": [], "more": False})
    assert (listed.code, listed.out, listed.err) == (0, "Nothing is pending that was asked for.\n", "")


async def test_pending_calls_are_listed_without_their_arguments(plane: Plane, shell: Shell) -> None:
    await plane.append("echo", "c\x1b[31m1", text="a secret")
    await plane.append("echo", "c2", text="a secret")
    first, second = await plane.orphan()
    listed, told_ = (await shell.each("pending", "pending --older 1m --json --limit 1")).values()

    rows = [line.split() for line in listed.out.splitlines() if line.split()[:1] in ([first], [second])]
    assert (listed.code, listed.err, told_.code, told_.err) == (0, "", 0, "")
    assert [row[:7] for row in rows] == [
        [first, "c\ufffd[31m1", "echo", "gone-1-0000", "1", "1", "m"],
        [second, "c2", "echo", "gone-1-0000", "1", "1", "m"],
    ]
    assert "secret" not in listed.out + told_.out
    assert [call["entry_id"] for call in told_.json["calls"]] == [first]
    assert told_.json["more"] is True


async def test_a_list_that_is_cut_says_so(plane: Plane, shell: Shell) -> None:
    for _ in range(2):
        await plane.append("echo")
    await plane.orphan()
    cut, whole = (await shell.each("pending --limit 1", "pending --limit 2")).values()

    assert cut.out.endswith("These are the oldest 1, and there are more: raise --limit\n")
    assert "more" not in whole.out


async def test_what_is_no_duration_is_wrong_usage(lonely: Shell) -> None:
    done = await lonely.run("pending", "--older", "soon")

    assert (done.code, done.out) == (2, "")
    assert "Invalid value for '--older': soon is not a duration such as 30s" in done.err


# ── explain ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_is_explained_without_its_arguments(plane: Plane, shell: Shell) -> None:
    await plane.append("echo", "c\x1b[31m1", text="a secret")
    [entry_id] = await plane.orphan()
    said, told_ = (await shell.each(f"explain {entry_id}", "explain 'c\x1b[31m1' --json")).values()

    lines = {line.split()[0]: line[12:] for line in said.out.splitlines()}
    [life] = told_.json["lives"]
    assert (said.code, said.err, told_.code, told_.err) == (0, "", 0, "")
    assert lines["entry"].startswith(f"{entry_id}, appended ")
    assert (lines["call"], lines["tool"]) == ("c\ufffd[31m1", "echo")
    assert lines["is"].startswith("in flight on gone-1-0000, attempt 1, renewed 1 m ")
    assert lines["note"].startswith("no worker is registered under that name")
    assert "next        toolspan pending" in said.out.splitlines()
    assert (life["place"], life["entry_id"], life["held_by"]) == ("in_flight", entry_id, "gone-1-0000")
    assert "secret" not in said.out + told_.out


async def test_a_dead_letter_of_a_killer_is_explained_with_its_attempts_and_steps(
    plane: Plane, shell: Shell, workers: Workers, tmp_path: Path
) -> None:
    settings = plane.settings.model_copy(update={"max_attempts": 2})
    entry_id = await plane.append("dies", path=str(tmp_path / "runs"))
    for _ in range(2):
        await workers.spawn("--tools", "tests.support.toolbox:dies", settings=settings).exited()
    await workers.start("--tools", "tests.support.toolbox:dies", settings=settings)
    await eventually(plane.dead_letters, because="the killer is quarantined")
    done = await shell.run("explain", "dies", TOOLSPAN_DOCS_URL="https://docs.example.com")

    [letter] = await plane.dead_letters()
    lines = done.out.splitlines()
    assert done.code == 0
    assert f"is          dead letter {letter.id}, worker_lost" in lines
    assert lines[0].startswith(f"entry       {entry_id}, ")
    assert [line.split()[1] for line in lines if line.startswith("attempt ")] == ["1", "2"]
    assert [line.split(": ")[1].split()[0] for line in lines if line.startswith("step")] == [
        "reclaimed", "reclaimed", "quarantined",
    ]  # fmt: skip
    assert f"next        toolspan dlq replay {letter.id}" in lines
    assert lines[-1] == "read        https://docs.example.com/how-to/replay-dead-letters/"


async def test_what_redis_does_not_know_is_said_with_what_that_can_mean(plane: Plane, shell: Shell) -> None:
    for number in range(3):
        await plane.append("echo", f"c{number}")
    unknown, bounded = (await shell.each("explain nobody", "explain c0 --scan 2 --json")).values()

    assert (unknown.code, unknown.out, bounded.code, bounded.out) == (1, "", 1, "")
    assert unknown.sentence.startswith(
        "Redis knows no call nobody: it was settled, which leaves nothing behind, or was"
    )
    assert bounded.sentence == ("Redis knows no call c0: only the newest 2 entries were searched, say --scan for more")


async def test_a_search_that_ended_at_its_bound_says_that_there_may_be_more(plane: Plane, shell: Shell) -> None:
    for _ in range(3):
        await plane.append("echo", "same")
    cut, whole = (await shell.each("explain same --scan 2", "explain same")).values()

    assert (cut.code, whole.code) == (0, 0)
    assert cut.out.splitlines()[-1].startswith("There may be more: only the newest 2 entries were searched")
    assert (cut.out.count("entry  "), whole.out.count("entry  ")) == (2, 3)
    assert "There may be more" not in whole.out
