"""dlq replay and discard of many dead letters at once: which, how fast, and what remains when they are stopped."""

from __future__ import annotations

import signal
from getpass import getuser
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import ended
from tests.cli.letters import add, audit, bury, calls, fill, ids
from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.cli.commands import Shell
    from tests.support.plane import Plane
    from toolspan.testing import EmbeddedServer

MANY = 300
FEW_A_SECOND = "2"
LOST_ECHOES = "--all-matching --tool echo --reason worker_lost"
STOPPED = "stopped before the end: what is done stays done"
EVERYTHING = "--all-matching --since 9999d"


async def test_only_what_matches_every_filter_is_replayed(plane: Plane, shell: Shell) -> None:
    wanted = [await bury(plane, reason="worker_lost", fingerprint="a" * 16) for _ in range(2)]
    others = [
        await bury(plane, reason="max_attempts", fingerprint="a" * 16),
        await bury(plane, reason="worker_lost", fingerprint="b" * 16),
        await bury(plane, "v", "1", "id", "c", "tool", "search", "args", "{}", fingerprint="a" * 16),
        await bury(plane, reason="worker_lost", fingerprint="a" * 16, at="1000"),
    ]
    filters = f"--tool echo --reason worker_lost --since 1h --fingerprint {'a' * 16}"
    done = await shell.run(*f"dlq replay --all-matching {filters} --json".split())

    assert (done.code, done.err) == (0, "")
    assert [one["dead_letter"] for one in done.json["replayed"]] == wanted
    assert await ids(plane) == others
    assert [call["replay_of"] for call in await calls(plane)] == wanted


async def test_the_filters_of_a_bulk_action_are_written_down(plane: Plane, shell: Shell) -> None:
    first, second = await bury(plane), await bury(plane, reason="malformed")
    await shell.run(*f"dlq replay {LOST_ECHOES}".split())
    done = await shell.run(*f"dlq discard --all-matching --fingerprint {'f' * 16} --why old".split())

    assert (done.code, done.out) == (0, f"{second} discarded\n")
    replayed, discarded = await audit(plane)
    assert (replayed["action"], replayed["who"], replayed["dead_letter"]) == ("replay", getuser(), first)
    assert replayed["matching"] == "tool=echo reason=worker_lost"
    assert (discarded["action"], discarded["dead_letter"], discarded["why"]) == ("discard", second, "old")
    assert discarded["matching"] == f"fingerprint={'f' * 16}"


@pytest.mark.parametrize("command", ["dlq replay", "dlq discard --why old"])
async def test_nothing_matches_is_no_failure(plane: Plane, shell: Shell, command: str) -> None:
    kept = await bury(plane)
    done = await shell.run(*f"{command} --all-matching --tool nobody.calls.it".split())

    assert (done.code, done.out, done.err) == (0, "No dead letter matches.\n", "")
    assert await ids(plane) == [kept]


async def test_what_cannot_be_replayed_is_refused_and_the_rest_goes_on(plane: Plane, shell: Shell) -> None:
    strange = await bury(plane, reason="malformed")
    first = await bury(plane)
    asked = await bury(plane, reason="reply_failed")
    last = await bury(plane)
    done = await shell.run(*f"dlq replay {EVERYTHING}".split())

    assert done.code == 1
    assert [line.split()[:2] for line in done.out.splitlines()] == [[first, "replayed"], [last, "replayed"]]
    assert [line.split()[1] for line in done.err.splitlines()] == [strange, asked]
    assert await ids(plane) == [strange, asked]


# ── dry runs ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_dry_run_tells_what_a_real_one_would_do_and_changes_nothing(plane: Plane, shell: Shell) -> None:
    strange, good = await bury(plane, reason="malformed"), await bury(plane)
    large = await bury(plane, *("v", "1", "id", "c", "tool", "echo", "args", '{"x":"%s"}' % ("a" * 300_000)))
    listed, told, absent = (
        await shell.each(
            f"dlq replay {EVERYTHING} --dry-run",
            f"dlq replay {strange} {good} {large} --dry-run --json",
            "dlq replay 9-9 --dry-run",
        )
    ).values()
    left = await ids(plane)
    real = await shell.run("dlq", "replay", strange, good, large)

    assert (listed.code, told.code, absent.code) == (1, 1, 1)
    assert listed.out == f"{good} would be replayed\n1 would be replayed, 2 refused\n"
    assert listed.err == real.err
    assert told.json["would_replay"] == [good]
    assert [f"toolspan: {why}" for why in told.json["would_refuse"]] == real.err.splitlines()
    assert "there is no dead letter 9-9" in absent.err
    assert left == [strange, good, large]
    assert [one["dead_letter"] for one in await audit(plane)] == [good]


async def test_a_dry_run_of_a_discard_changes_nothing(plane: Plane, shell: Shell) -> None:
    first, second = await bury(plane), await bury(plane)
    commands = (f"dlq discard {first} --why x --dry-run", f"dlq discard {EVERYTHING} --why x --dry-run --json")
    listed, told = (await shell.each(*commands)).values()

    assert (listed.code, listed.out) == (0, f"{first} would be discarded\n")
    assert (told.code, told.json) == (0, {"would_discard": [first, second], "missed": []})
    assert (await ids(plane), await audit(plane)) == ([first, second], [])


# ── the set and its pace ───────────────────────────────────────────────────────────────────────────


async def test_what_arrives_meanwhile_is_left_for_another_time(plane: Plane, shell: Shell) -> None:
    old = [await bury(plane) for _ in range(3)]
    async with shell.started(*f"dlq replay {EVERYTHING} --rate {FEW_A_SECOND}".split()) as process:
        await eventually(plane.left, because="the first is replayed")
        new = await bury(plane)
        done = await ended(process)

    assert (done.code, [line.split()[0] for line in done.out.splitlines()]) == (0, old)
    assert await ids(plane) == [new]


async def test_the_dead_letters_that_its_own_replays_make_are_not_replayed_again(plane: Plane, shell: Shell) -> None:
    # Nobody serves this tool: each call is a dead letter again as soon as a worker sees it.
    old = [await bury(plane, "v", "1", "id", "c", "tool", "nobodys", "args", "{}") for _ in range(5)]
    async with running_worker(toolbox.echo, settings=plane.settings):
        done = await shell.run(*f"dlq replay {EVERYTHING} --rate 10 --json".split())
        await eventually(lambda: _buried(plane, 5), because="all are dead letters again")

    assert [one["dead_letter"] for one in done.json["replayed"]] == old
    assert len(await audit(plane)) == 5


async def test_no_more_are_replayed_in_a_second_than_asked(plane: Plane, shell: Shell) -> None:
    for _ in range(6):
        await bury(plane)
    await shell.run(*f"dlq replay {EVERYTHING} --rate 20".split())

    at_ms = [int(call["entry"].partition("-")[0]) for call in await calls(plane)]
    gaps = [after - before for before, after in pairwise(at_ms)]
    # Redis' clock is read in whole milliseconds.
    assert len(gaps) == 5
    assert min(gaps) >= 49


# ── stopped half-way ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
async def test_a_replay_that_is_stopped_goes_on_where_it_was_and_nothing_runs_twice(
    plane: Plane, shell: Shell, number: signal.Signals
) -> None:
    await fill(plane, MANY)
    command = f"dlq replay {EVERYTHING}".split()
    letters = set(await ids(plane))
    # Slow enough to be met in the middle, however quick the machine is.
    async with shell.started(*command, "--rate", "200") as process:
        await eventually(lambda: _waiting(plane, 20), because="some are replayed")
        process.send_signal(number)
        stopped = await ended(process)
    replayed = {call["replay_of"] for call in await calls(plane)}
    left = set(await ids(plane))
    rest = await shell.run(*command)

    assert 20 <= len(replayed) < MANY
    assert (replayed | left, replayed & left) == (letters, set())
    assert rest.code == 0
    assert sorted(call["replay_of"] for call in await calls(plane)) == sorted(letters)
    assert (await ids(plane), len(await audit(plane))) == ([], MANY)
    if number != signal.SIGKILL:
        assert {line.split()[0] for line in stopped.out.splitlines()} == replayed
        assert (stopped.code, STOPPED in stopped.sentence) == (1, True)


async def test_a_replay_goes_on_after_redis_was_away(plane: Plane, server: EmbeddedServer, shell: Shell) -> None:
    await fill(plane, MANY)
    letters = set(await ids(plane))
    command = f"dlq replay {EVERYTHING}".split()
    async with (
        Proxy(server.port) as proxy,
        shell.started(*command, "--rate", "200", TOOLSPAN_REDIS_URL=proxy.url) as process,
    ):
        await eventually(lambda: _waiting(plane, 20), because="some are replayed")
        # The next one is replayed too, and nobody hears of it.
        proxy.refusing = True
        proxy.cut_after(b"EVALSHA")
        away = await ended(process)
    told = {line.split()[0] for line in away.out.splitlines()}
    replayed = {call["replay_of"] for call in await calls(plane)}
    rest = await shell.run(*command)

    assert away.code == 3
    assert "is it running, and is TOOLSPAN_REDIS_URL right?" in away.sentence
    assert (len(replayed - told), told - replayed) == (1, set())
    assert len(replayed) < MANY
    assert rest.code == 0
    assert sorted(call["replay_of"] for call in await calls(plane)) == sorted(letters)


# More lines than fit into a pipe and its reader: it cannot be through before it is stopped.
@pytest.mark.parametrize(("command", "count"), [("dlq replay", 2_500), ("dlq discard --why old", 12_000)])
async def test_what_runs_at_full_speed_is_stopped_too(plane: Plane, shell: Shell, command: str, count: int) -> None:
    await fill(plane, count)
    async with shell.started(*f"{command} {EVERYTHING}".split()) as process:
        await eventually(lambda: _buried_less(plane, count), because="some are ended")
        process.send_signal(signal.SIGTERM)
        stopped = await ended(process)
    between = len(await ids(plane))
    rest = await shell.run(*f"{command} {EVERYTHING}".split())

    assert 0 < between < count
    assert len(stopped.out.splitlines()) == count - between
    assert (stopped.code, STOPPED in stopped.sentence) == (1, True)
    assert (rest.code, len(rest.out.splitlines())) == (0, between)
    assert await ids(plane) == []


# ── waiting for the new calls ──────────────────────────────────────────────────────────────────────


async def test_it_is_told_how_each_replayed_call_ended(plane: Plane, shell: Shell) -> None:
    good = await bury(plane)
    older = await bury(plane, "payload", '{"tool": "echo", "args": {"text": "y"}, "reply_to": "sg:reply:gone"}')
    bad = await bury(plane, "v", "1", "id", "c", "tool", "hangs", "args", "{}")
    async with running_worker(toolbox.echo, toolbox.hangs, settings=plane.settings):
        fine = await shell.run("dlq", "replay", good, older, "--wait")
        told = await shell.run("dlq", "replay", bad, "--wait", "--json")

    ends = [line for line in fine.out.splitlines() if " ended: " in line]
    assert (fine.code, fine.err) == (0, "")
    assert sorted((line.split()[0], line.rpartition(": ")[2]) for line in ends) == [(good, "ok"), (older, "ok")]
    [failed] = told.json["replayed"]
    assert (told.code, failed["dead_letter"], failed["ended"]) == (1, bad, "timeout")
    assert failed["error_message"]
    assert await _reply_streams(plane) == []


async def test_more_are_waited_for_than_a_reply_stream_keeps(plane: Plane, shell: Shell) -> None:
    await fill(plane, MANY)
    few = plane.settings.model_copy(update={"reply_maxlen": 100})
    async with running_worker(toolbox.echo, settings=few):
        done = await shell.run(*f"dlq replay {EVERYTHING} --wait --json".split())

    assert (done.code, {one["ended"] for one in done.json["replayed"]}) == (0, {"ok"})
    assert len(done.json["replayed"]) == MANY
    assert await _reply_streams(plane) == []


async def test_a_call_that_does_not_end_in_time_is_a_failure_that_says_so(plane: Plane, shell: Shell) -> None:
    letter_id = await bury(plane)
    done = await shell.run("dlq", "replay", letter_id, "--wait", "--timeout", "0.2")

    assert done.code == 1
    assert done.out.startswith(f"{letter_id} replayed as call ")
    assert done.sentence.startswith(f"{letter_id} as call ")
    assert done.sentence.endswith(" has not ended yet: it waits, or runs")
    assert (await plane.left(), await _reply_streams(plane)) == (1, [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_whoever_stops_waiting_leaves_no_reply_stream(plane: Plane, shell: Shell, number: signal.Signals) -> None:
    unheard = await bury(plane)
    async with shell.started("dlq", "replay", unheard, "--wait") as process:
        [call] = await eventually(lambda: calls(plane), because="it is replayed")
        await plane.redis.execute_command("XADD", call["reply_to"], "*", "not", "a reply")
        process.send_signal(number)
        done = await ended(process)

    assert done.code == 1
    assert STOPPED in done.err
    assert call["reply_to"].startswith(plane.keys.reply_prefix)
    assert await _reply_streams(plane) == []


# ── discards ───────────────────────────────────────────────────────────────────────────────────────


async def test_several_are_discarded_at_once_each_with_its_entry(plane: Plane, shell: Shell) -> None:
    strange = await add(plane, "somebody", "else's")
    first, kept, last = [await bury(plane) for _ in range(3)]
    done = await shell.run("dlq", "discard", first, strange, "9-9", last, "--why", "test data")

    assert done.code == 1
    assert done.out == "".join(f"{one} discarded\n" for one in (first, strange, last))
    assert done.sentence.startswith("there is no dead letter 9-9")
    assert await ids(plane) == [kept]
    assert await plane.redis.xlen(plane.keys.dead_letters) == 1
    assert [(one["dead_letter"], one["why"]) for one in await audit(plane)] == [
        (first, "test data"), (strange, "test data"), (last, "test data"),
    ]  # fmt: skip


# ── details ────────────────────────────────────────────────────────────────────────────────────────


async def _waiting(plane: Plane, count: int) -> bool:
    return await plane.left() >= count


async def _buried(plane: Plane, count: int) -> bool:
    return len(await ids(plane)) == count


async def _buried_less(plane: Plane, count: int) -> bool:
    return int(await plane.redis.xlen(plane.keys.dead_letters)) < count


async def _reply_streams(plane: Plane) -> list[bytes]:
    return [key async for key in plane.redis.scan_iter(f"{plane.keys.reply_prefix}*")]
