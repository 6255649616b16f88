"""pause, resume, drain: what operators ask of the workers."""

from __future__ import annotations

from getpass import getuser
from typing import TYPE_CHECKING

from tests.cli.letters import audit
from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.health import READY, Health
from tests.support.runs import starts
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell
    from tests.support.plane import Plane
    from tests.support.processes import Workers


async def test_a_tool_is_paused_and_resumed_and_no_call_is_lost(plane: Plane, shell: Shell) -> None:
    async with running_worker(toolbox.echo, settings=plane.settings) as worker:
        paused = await shell.run("pause", "echo", "--why", "so slow")
        await eventually(lambda: "echo" in worker._engine._roles.controls.paused, because="the worker hears of it")
        entry_id = await plane.append("echo", "waits", text="x")

        async def parked() -> bool:
            return (await plane.pending()).get(entry_id) == ("~parked", 0)

        await eventually(parked, because="its call waits")
        seen = await shell.each("status", "status --json", "pause --list", "pause --list --json", "tools --json")
        told, as_json = (await shell.each(f"explain {entry_id}", f"explain {entry_id} --json")).values()
        # Now and then somebody looks whether it may go on.
        await eventually(parked, because="its call waits still")
        resumed = await shell.run("resume", "echo", "--why", "all well")
        reply = await eventually(lambda: plane.reply("waits"), because="it runs")
    none = await shell.run("pause", "--list")

    who = getuser()
    assert (paused.code, paused.err) == (0, "")
    assert paused.out == "echo is paused: its calls wait until `toolspan resume echo`, and those that run go on\n"
    assert (resumed.code, resumed.err, resumed.out) == (0, "", "echo runs again; 1 calls that waited are due now\n")
    assert reply.result == "x"
    status, status_json, listed, listed_json, tools = seen.values()
    assert "paused: echo for " in status.out
    assert f" by {who}: so slow\n" in status.out
    assert "look: paused, so that their calls wait: echo\n" in status.out
    [one] = status_json.json["paused"]
    assert (one["tool"], one["who"], one["why"]) == ("echo", who, "so slow")
    assert 0 <= one["since"] < 60
    assert listed.out.startswith("paused: echo for ")
    assert [entry["tool"] for entry in listed_json.json] == ["echo"]
    assert [(tool["name"], tool["paused"]) for tool in tools.json] == [("echo", True)]
    assert f"its tool is paused by {who}: so slow; live workers that serve its tool: 1" in told.out
    [life] = as_json.json["lives"]
    assert (life["reason"], life["next"][0]) == ("paused", "toolspan resume echo")
    assert none.out == "Nothing is paused.\n"
    assert [(one["action"], one["who"], one["tool"], one["why"]) for one in await audit(plane)] == [
        ("pause", who, "echo", "so slow"), ("resume", who, "echo", "all well"),
    ]  # fmt: skip


async def test_machines_are_told_what_was_done(plane: Plane, shell: Shell) -> None:
    first = await shell.run("pause", "echo", "--json")
    second = await shell.run("pause", "echo", "--json", "--why", "another")
    said = await shell.run("pause", "echo")
    done = await shell.run("resume", "echo", "--json")

    assert (first.json["anew"], first.json["served_by"], first.json["before"]) == (True, 0, None)
    assert (second.json["anew"], second.json["before"]["why"]) == (False, "")
    assert said.out == f"echo was paused before, by {getuser()}\n"
    assert said.sentence == "no live worker serves echo now; is it spelt like that?"
    assert done.json == {"tool": "echo", "hastened": 0}
    assert len(await audit(plane)) == 2


async def test_who_pauses_a_tool_of_another_stream_is_told_where_it_is_served(plane: Plane, shell: Shell) -> None:
    batch = plane.settings.model_copy(update={"stream": "batch"})
    async with running_worker(toolbox.echo, settings=batch):
        here = await shell.run("pause", "echo")
        seen_here = await shell.run("tools", "--json")
        there = await shell.run("pause", "echo", TOOLSPAN_STREAM="batch")
        seen_there = await shell.run("tools", "--json")
        await shell.run("resume", "echo")
        await shell.run("resume", "echo", TOOLSPAN_STREAM="batch")

    assert here.sentence.startswith("echo is served in the stream batch and not paused there: TOOLSPAN_STREAM=batch")
    assert (there.code, there.err) == (0, "")
    assert [tool["paused"] for tool in (*seen_here.json, *seen_there.json)] == [False, True]


async def test_what_cannot_be_asked_is_said_in_one_sentence(plane: Plane, shell: Shell) -> None:
    await plane.redis.zadd(plane.keys.workers, {"web-1-42-aaaa": 1})
    ends = await shell.each(
        "pause 'no tool'", "resume echo", "drain web-1-42-aaab", "drain nobody", "pause", "pause echo --list"
    )
    left = await plane.redis.keys(f"{plane.keys.prefix}:*")

    assert [done.told() for done in list(ends.values())[:4]] == [
        (1, "no tool can be called no tool: `toolspan tools` lists those that are served"),
        (1, "echo is not paused; paused now: nothing"),
        (1, "there is no worker web-1-42-aaab: `toolspan consumers` lists them"),
        (1, "there is no worker nobody: `toolspan consumers` lists them"),
    ]
    assert [done.code for done in list(ends.values())[4:]] == [2, 2]
    assert left == [plane.keys.workers.encode()]


async def test_a_worker_that_is_asked_to_go_says_so_and_goes(
    plane: Plane, shell: Shell, workers: Workers, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    worker = await workers.start("--health-port", "0", TOOLSPAN_DRAIN_SECONDS="60")
    health = await Health.of(worker)
    await health.becomes(READY)
    [consumer] = await plane.beating()
    await plane.append("until", path=str(runs), release=str(release))
    await eventually(lambda: starts(runs), because="a tool runs")
    mistyped = await shell.run("drain", consumer[:-1] + "~")
    asked = await shell.run("drain", consumer, "--why", "new kernel")
    await health.becomes("draining")
    again, waited, listed, status = (
        await shell.each(
            f"drain {consumer} --json", f"drain {consumer} --wait --timeout 0.2", "consumers --json", "status --json"
        )
    ).values()
    release.touch()
    gone = await shell.run("drain", consumer, "--wait")

    assert mistyped.told() == (1, f"there is no worker {consumer[:-1]}~: did you mean {consumer}?")
    assert (asked.code, asked.err, asked.out) == (0, "", f"{consumer} finishes what it holds, and goes\n")
    assert again.json == {"consumer": consumer, "anew": False, "gone": False}
    assert waited.code == 1
    assert f"{consumer} has not left within 0.2 s, and holds 1 calls: it goes on to drain" in waited.err
    assert [(one["consumer"], one["state"]) for one in listed.json] == [(consumer, "draining")]
    assert (status.json["live_workers"], status.json["draining_workers"]) == (0, 1)
    # It may have gone before the last command asked.
    assert gone.out == f"{consumer} has gone\n" or "there is no worker" in gone.err
    assert await worker.exited() == 0
    assert await plane.reply("until") is not None
    assert [(one["action"], one["consumer"], one["why"]) for one in await audit(plane)] == [
        ("drain", consumer, "new kernel")
    ]


async def test_a_drained_child_is_not_started_again(plane: Plane, shell: Shell, workers: Workers) -> None:
    parent = await workers.start("--processes", "2")

    async def two() -> list[str]:
        names = await plane.beating()
        return names if len(names) == 2 else []

    first, second = await eventually(two, because="both join")
    gone = await shell.run("drain", first, "--wait")
    left = await plane.beating()
    alive = parent.alive
    await shell.run("drain", second, "--wait")

    assert gone.out == f"{first} has gone\n"
    assert left == [second]
    assert alive
    assert await parent.exited() == 0
    assert await plane.beating() == []


async def test_a_dead_worker_cannot_hear(plane: Plane, shell: Shell, workers: Workers) -> None:
    worker = await workers.start()
    [consumer] = await plane.beating()
    worker.kill()

    async def silent() -> bool:
        return bool((await shell.run("status", "--json")).json["silent_workers"])

    await eventually(silent, because="its lease is over")
    done = await shell.run("drain", consumer)

    assert done.code == 1
    assert done.sentence.startswith(f"{consumer} was not heard of for ")
    assert done.sentence.endswith("it goes if it ever comes back; others claim what it holds")
    await plane.redis.delete(plane.keys.control)
