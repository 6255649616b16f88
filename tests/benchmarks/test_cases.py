"""What a benchmark is made of fits together; what it measures is no matter of tests."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks import cases
from benchmarks.backlog import drained
from benchmarks.case import Case, Figure, Scale
from benchmarks.cases import CASES
from benchmarks.contenders import REFERENCE
from benchmarks.peers.contenders import PEERS
from benchmarks.peers.environments import REQUIREMENTS
from benchmarks.processes import Failure, Program
from benchmarks.stage import Stage
from benchmarks.turns import take_turns
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from benchmarks.case import Figures

by_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
by_peer = pytest.mark.parametrize("peer", [peer.name for peer in PEERS])


def test_every_case_is_run() -> None:
    files = {path.stem for path in Path(cases.__path__[0]).glob("[!_]*.py")}

    assert [case.name for case in CASES] == list(dict.fromkeys(case.name for case in CASES))
    assert files == {case.name for case in CASES}


@by_case
def test_every_goal_is_about_what_is_measured(case: Case) -> None:
    figures = {figure.name for figure in case.figures}

    for goal in case.goals:
        assert (goal.at_least is None) != (goal.at_most is None), goal.promise
        for measure in (goal.of, *goal.beside):
            assert measure.contender in case.contenders, goal.promise
            assert measure.figure in figures, goal.promise


@by_peer
def test_every_peer_has_a_program_and_an_environment_that_is_pinned(peer: str) -> None:
    pinned = (REQUIREMENTS / f"{peer}.txt").read_text()
    packages = [line for line in pinned.splitlines() if re.match(r"\w", line)]

    assert find_spec(f"benchmarks.peers.programs.{peer}")
    assert packages
    assert all(re.match(r"[\w.\[\],-]+==\S+", line) for line in packages)
    assert pinned.count("--hash=") >= len(packages)
    assert "://" not in pinned


def test_contenders_take_turns_and_each_finds_a_fresh_server() -> None:
    ran: list[str] = []

    def run(name: str, stage: Stage, _: Scale) -> Figures:
        ran.append(name)
        stage.look.set(f"{name}-{len(ran)}", 1)
        return {"keys": stage.look.dbsize()}

    contenders = {name: (lambda stage, scale, name=name: run(name, stage, scale)) for name in "ab"}
    case = Case("fake", "?", (Figure("keys", "keys"),), contenders, ())
    runs = take_turns(case, Scale(), rounds=2, tell=lambda _: None)

    assert ran == ["a", "b", "a", "b"]
    assert runs == {"a": [{"keys": 1}] * 2, "b": [{"keys": 1}] * 2}


def test_a_backlog_is_drained_and_what_that_took_is_told_per_call() -> None:
    with Stage() as stage:
        REFERENCE.fill(stage, 10_000)
        worker = REFERENCE.start(stage)
        figures = drained(stage, worker, 10_000)
        replies = stage.look.xlen(stage.keys.replies("bench"))

    assert replies == 10_000
    assert figures["rate"] > 0
    # A look for the owner and a reply for each call; reads and the rest of settling are shared by many.
    assert 1 < figures["commands"] < 3


def test_a_program_that_ends_is_no_measurement() -> None:
    with Stage() as stage:
        program = stage.start(("sh", "-c", "echo it broke >&2; exit 3"))
        with pytest.raises(Failure, match=r"ended with 3: it broke"):
            stage.until(lambda: False, "hell freezes over", program)


async def test_what_a_program_starts_counts_as_its_own_and_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "child"
    # In a session of its own, as a child may be.
    script = f"setsid sh -c 'echo $$ >{told}; while :; do :; done' & wait"
    program = Program(("sh", "-c", script), {})
    await eventually(lambda: program.cpu_seconds() > 0.05, because="the child computes")
    child = Path("/proc") / told.read_text().strip()
    alive = child.exists()
    program.end()

    assert alive
    await eventually(lambda: not child.exists(), because="nothing is left")
