"""Of given numbers, the report says what is true."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.case import Case, Figure, Goal, Measure
from benchmarks.machine import Machine
from benchmarks.report.page import goals_table, written
from benchmarks.report.plot import drawn
from benchmarks.results import Results, judge

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.case import Figures
    from benchmarks.stage import Stage

RUNS = {
    "ours": [{"rate": 90.0, "ms": 3.0}, {"rate": 100.0, "ms": 4.0}, {"rate": 200.0, "ms": 9.0}],
    "slow": [{"rate": 50.0, "ms": 8.0}, {"rate": 40.0, "ms": 5.0}, {"rate": 60.0, "ms": 7.0}],
    "slower": [{"rate": 10.0, "ms": 2.0}, {"rate": 20.0, "ms": 20.0}, {"rate": 30.0, "ms": 10.0}],
}


def _no_run(_: Stage, __: Any) -> Figures:
    raise AssertionError


def _case(*goals: Goal) -> Case:
    figures = (Figure("rate", "calls/s"), Figure("ms", "ms", 1))
    return Case("drain", "How fast?", figures, dict.fromkeys(RUNS, _no_run), goals, note="A note.")


def _beside(figure: str, **bound: Any) -> Goal:
    others = tuple(Measure(name, figure) for name in ("slower", "slow"))
    return Goal(f"{figure} beside others", Measure("ours", figure), others, **bound)


def test_medians_are_compared_and_the_rounds_are_told() -> None:
    goal = Goal("rate", Measure("ours", "rate"), (Measure("slow", "rate"),), at_least=2)
    [verdict] = judge(_case(goal), RUNS)

    assert verdict.value == 100 / 50
    assert (verdict.rounds.least, verdict.rounds.most) == (90 / 50, 200 / 60)
    assert verdict.met


@pytest.mark.parametrize(
    ("goal", "hardest", "value"),
    [
        (_beside("rate", at_least=2), "slow", 2.0),
        (_beside("ms", at_most=1), "slow", 4 / 7),
        # Beyond the heaviest.
        (_beside("ms", at_most=1, how="difference"), "slower", 4.0 - 10.0),
    ],
    ids=["most", "least", "difference"],
)
def test_of_several_the_best_is_the_measure(goal: Goal, hardest: str, value: float) -> None:
    [verdict] = judge(_case(goal), RUNS)

    assert verdict.beside is not None
    assert verdict.beside.contender == hardest
    assert verdict.value == value
    assert verdict.met


def test_a_goal_of_its_own_needs_nobody_beside_it() -> None:
    met, missed = judge(_case(*(Goal("ms", Measure("ours", "ms"), at_most=most) for most in (4, 3.98))), RUNS)

    assert (met.value, met.met) == (4, True)
    assert not missed.met


def test_what_reads_like_the_goal_has_met_it() -> None:
    """The table says 1.00 of 0.996: whoever reads that the goal is 1 shall not read that it was missed."""
    runs = {name: [{"rate": rate}] for name, rate in (("ours", 99.6), ("slow", 100.0))}
    goal = Goal("rate", Measure("ours", "rate"), (Measure("slow", "rate"),), at_least=1)

    assert "| ≥ 1 | 1.00 | 1.00 … 1.00 | met |" in goals_table([_case(goal)], {"drain": runs})


def _results() -> Results:
    machine = Machine("A processor", 2, 8.0, "Linux 6", "valkey 9", 0.1, {"toolspan": "0.1.0 (abc)"})
    return Results(machine, "2026-11-26", "make bench", 12.5, {"drain": RUNS})


def test_the_page_tells_goals_figures_and_machine() -> None:
    page = written(_results(), [_case(_beside("rate", at_least=2), Goal("ms", Measure("ours", "ms"), at_most=3.5))])

    assert "`make bench` measured this on 2026-11-26, in 12.5 minutes." in page
    assert "| [drain](#drain) | rate beside others (slow) | ≥ 2 | 2.00 | 1.80 … 3.33 | met |" in page
    assert "| [drain](#drain) | ms | ≤ 3.5 | 4.00 | 3.00 … 9.00 | **missed** |" in page
    assert "| ours | 100 ±55% | 4.0 ±75% |" in page
    assert "A note." in page
    assert "| processor | A processor, 2 cores |" in page
    assert "| toolspan | 0.1.0 (abc) |" in page


@pytest.mark.parametrize(("load", "warned"), [(1.0, False), (1.1, True)])
def test_the_page_warns_of_numbers_from_a_machine_with_other_things_to_do(load: float, warned: bool) -> None:
    results = replace(_results(), machine=replace(_results().machine, load=load))

    assert ("had other things to do" in written(results, [])) == warned


def test_the_picture_has_what_was_missed_on_the_left_of_what_was_promised() -> None:
    met, missed = _beside("rate", at_least=1), Goal("ms", Measure("ours", "ms"), at_most=2)
    picture = ET.fromstring(drawn(_results(), [_case(met, missed)]))  # noqa: S314 - our own
    svg = "{http://www.w3.org/2000/svg}"
    dots = {dot.get("class"): float(dot.get("cx", "0")) for dot in picture.iter(f"{svg}circle")}
    [promised] = {float(line.get("x1", "0")) for line in picture.iter(f"{svg}line") if line.get("class") == "line"}

    assert dots["missed"] < promised < dots["met"]


def test_what_a_case_has_that_was_not_measured_yet_is_left_out() -> None:
    goals = [Goal("new", Measure(*new), at_least=1) for new in (("newcomer", "rate"), ("ours", "new"))]
    case = replace(_case(*goals), contenders=dict.fromkeys([*RUNS, "newcomer"], _no_run))
    case = replace(case, figures=(*case.figures, Figure("new", "new")))

    assert judge(case, RUNS) == []
    page = written(_results(), [case])
    assert "| slow | 50 ±20% | 7.0 ±21% |  |" in page
    assert "newcomer" not in page


def test_results_are_read_as_they_were_kept(tmp_path: Path) -> None:
    _results().keep(tmp_path / "results.json")

    assert Results.load(tmp_path / "results.json") == _results()
