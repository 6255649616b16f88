"""worker: which tools it takes, whom it joins, and the processes of --processes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import ended, line
from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.runs import starts
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.cli.commands import Shell
    from tests.support.plane import Plane
    from tests.support.processes import WorkerProcess, Workers

DECLARED = """
from toolspan import tool

@tool({options})
def look(): ...

def plain(): ...
"""


def _write(folder: Path, name: str, options: str = "") -> None:
    (folder / f"{name}.py").write_text(DECLARED.format(options=options))


async def test_tools_that_cannot_be_served_are_wrong_usage(lonely: Shell) -> None:
    for name, options in (("one", ""), ("two", ""), ("many", "retries=4"), ("wrong", "timeout=0")):
        _write(lonely.folder, name, options)
    for name, text in (("needs", "import nothing"), ("typed", "def look(:"), ("leaves", "raise SystemExit(0)")):
        (lonely.folder / f"{name}.py").write_text(text)
    at = {name: lonely.folder / f"{name}.py" for name in ("needs", "typed", "leaves")}
    sentences = {
        "not.there": "there is no module not.there: is it installed, or below the current directory?",
        "json": "there are no tools in json: declare them with @tool",
        "one:plain": "one:plain is not a tool: declare it with @tool",
        "one:missing": "one:missing is not a tool: declare it with @tool",
        "one --tools two": "two tools are called look: give one of them another name",
        "many": "look has 4 retries, but a call gets only 4 attempts: lower them, or raise TOOLSPAN_MAX_ATTEMPTS",
        "wrong": "look cannot be a tool: timeout must be a number of seconds, more than 0",
        "needs": f"needs cannot be imported: ModuleNotFoundError: No module named 'nothing' ({at['needs']}, line 1)",
        "typed": f"typed cannot be imported: SyntaxError: invalid syntax (typed.py, line 1) ({at['typed']}, line 1)",
        "leaves": f"leaves cannot be imported: SystemExit: 0 ({at['leaves']}, line 1)",
    }
    ends = await lonely.each(*(f"worker --tools {tools}" for tools in sentences))

    assert [done.told() for done in ends.values()] == [(2, sentence) for sentence in sentences.values()]
    assert {done.out for done in ends.values()} == {""}


async def test_sigterm_while_tools_are_imported_ends_in_order(lonely: Shell) -> None:
    told = "import signal\nsignal.raise_signal(signal.SIGTERM)"
    caught = "import signal\ntry:\n    signal.raise_signal(signal.SIGTERM)\nexcept BaseException:\n    pass"
    for name, text in (("told", told), ("caught", caught)):
        (lonely.folder / f"{name}.py").write_text(text)
    ends = await lonely.each(*(f"worker --tools {tools}" for tools in ("told", "caught")))

    assert [(done.code, done.out, done.err) for done in ends.values()] == [(0, "", "")] * 2


async def test_children_that_were_typed_wrongly_are_not_started_again(lonely: Shell) -> None:
    done = await lonely.run("worker", "--processes", "2", "--tools", "not.there")

    assert (done.code, done.out) == (2, "")
    assert set(done.err.splitlines()) == {
        "toolspan: there is no module not.there: is it installed, or below the current directory?"
    }


async def test_tools_in_the_current_folder_are_found(plane: Plane, shell: Shell) -> None:
    _write(shell.folder, "mine", "retries=3")
    # The script that is installed, for `python -m` looks into the current folder by itself.
    script = str(Path(sys.executable).with_name("toolspan"))
    async with shell.program(script, "worker", "--tools", "mine:look", "--name", "here") as process:
        started = await line(process, "worker.started")
        process.send_signal(signal.SIGTERM)
        done = await ended(process)

    assert started["tools"] == ["look"]
    assert started["consumer"].startswith("here-")
    assert (done.code, done.out) == (0, "")
    assert await plane.consumers() == []


async def test_two_leases_on_one_stream_are_refused(plane: Plane, shell: Shell) -> None:
    async with running_worker(toolbox.echo, settings=plane.settings) as worker:
        done = await shell.run("worker", "--tools", "toolspan.tools.builtin", TOOLSPAN_LEASE_MS="2000")

    assert (done.code, done.out) == (1, "")
    assert done.sentence == (
        f"{worker.consumer} runs with a lease of 1000 ms, we were given 2000: "
        "set TOOLSPAN_LEASE_MS to the same for all workers of a stream"
    )


async def test_options_win_over_variables(plane: Plane, shell: Shell) -> None:
    options = ("--stream", "beside", "--concurrency", "3", "--tools", "toolspan.tools.builtin")
    async with shell.started("worker", *options, TOOLSPAN_STREAM="other", TOOLSPAN_CONCURRENCY="9") as process:
        started = await line(process, "worker.started")
        streams = await plane.redis.smembers(plane.keys.streams)
        process.send_signal(signal.SIGTERM)
        done = await ended(process)

    assert started["concurrency"] == 3
    assert streams == {b"beside"}
    assert done.code == 0
    await plane.redis.delete(f"{plane.settings.prefix}:stream:beside")


async def test_a_child_that_is_killed_is_started_again(plane: Plane, workers: Workers) -> None:
    parent = await workers.start("--processes", "2")
    before = await eventually(lambda: _two(plane), because="both children have joined")
    pids = {name: int(name.split("-")[-2]) for name in before}
    killed = before[0]
    os.kill(pids[killed], signal.SIGKILL)
    after = await eventually(lambda: _new(plane, before), because="another child joins in its place")
    parent.signal(signal.SIGTERM)
    code = await parent.exited()

    assert code == 0
    assert parent.pid not in pids.values()
    assert len(after) == 1
    ends = [json.loads(line) for line in parent.log.read_text().splitlines() if '"child.ended"' in line]
    assert [(end["pid"], end["how"], end["started_again_in"]) for end in ends] == [(pids[killed], "SIGKILL", 0.5)]
    # The killed one is a registration that lives on until it is reaped; the others have left.
    assert await plane.beating() == [killed]


async def test_children_without_redis_say_so_once_and_their_parent_says_when_they_try_again(lonely: Shell) -> None:
    async with lonely.started("worker", "--processes", "2", "--tools", "toolspan.tools.builtin") as parent:
        said: list[str] = []
        assert parent.stderr is not None
        # Until one has ended for the third time.
        while sum('"child.ended"' in line for line in said) < 6:
            said.append((await parent.stderr.readline()).decode())
        parent.send_signal(signal.SIGTERM)
        done = await ended(parent)

    ends = [json.loads(line) for line in said if line.startswith("{")]
    assert {(end["event"], end["how"]) for end in ends} == {("child.ended", "exit code 3")}
    assert sorted(end["started_again_in"] for end in ends)[:4] == [0.5, 0.5, 1.0, 1.0]
    assert sum("Redis cannot be reached" in line for line in said) == 2
    assert done.code == 0


async def test_a_second_sigterm_reaches_the_children(plane: Plane, workers: Workers, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    patient = plane.settings.model_copy(update={"drain_seconds": 600.0})
    parent = await workers.start("--processes", "2", settings=patient)
    await plane.append("until", path=str(runs), release=str(tmp_path / "never"))
    await eventually(lambda: starts(runs) == 1, because="the tool runs")
    parent.signal(signal.SIGTERM)
    await eventually(lambda: "drain.started" in parent.log.read_text(), because="the drain begins")
    parent.signal(signal.SIGTERM)

    assert await parent.exited() == 0
    # Given back, and not for the drain's deadline.
    told = [json.loads(line) for line in parent.log.read_text().splitlines() if '"drain.finished"' in line]
    assert sum(line["released"] for line in told) == 1
    assert {line["quarantined"] + line["left"] for line in told} == {0}
    assert all(line["consumer"] for line in told)
    assert await plane.left() == 1
    assert await plane.beating() == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_sigterm_while_children_begin_ends_in_order(plane: Plane, workers: Workers) -> None:
    parent = workers.spawn("--processes", "2")
    await eventually(lambda: _has_children(parent), because="a child is started")
    parent.signal(signal.SIGTERM)

    assert await parent.exited() == 0
    assert await plane.beating() == []


async def _two(plane: Plane) -> list[str]:
    names = await plane.beating()
    return names if len(names) == 2 else []


async def _new(plane: Plane, before: list[str]) -> list[str]:
    return [name for name in await plane.beating() if name not in before]


def _has_children(parent: WorkerProcess) -> bool:
    return bool(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())
