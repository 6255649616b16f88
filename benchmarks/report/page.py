"""The page docs/benchmarks.md: goals first, then each case, then the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.case import Measure
from benchmarks.cases import CASES
from benchmarks.results import Results, judge, measured, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.case import Case, Figure
    from benchmarks.machine import Machine
    from benchmarks.results import Runs, Spread, Verdict

_INTRODUCTION = """\
# Benchmarks

<!-- Generated from benchmarks/results.json, edit benchmarks/report/page.py and run `make docs`. -->

`{command}` measured this on {date}, in {minutes:g} minutes. The machine decides how fast anything is, so what we
promise are ratios: of medians of runs that took turns on one machine, each on a fresh server. CPU is what the kernel
says of the process, commands are what Redis counts, those inside of scripts included. Counting begins once a worker is
warm: nothing of a run's first tenth counts. Behind ± stands half of what lies between the least and the most of the
rounds.

{busy}![Each goal beside what was measured](images/benchmarks.svg)
"""


_BUSY = """\
!!! warning
    The machine had other things to do: before the start {load:g} processes wanted one of its {cores} cores. These
    numbers show that everything works, and little else.

"""

_IDLE_LOAD = 0.5
"""Processes that want a core, for each core; with more, somebody else is at work."""


def page() -> str:
    """Tell the results that were kept."""
    return written(Results.load(), CASES)


def written(results: Results, cases: Sequence[Case]) -> str:
    """Tell these *results*."""
    cases = [case for case in cases if case.name in results.cases]
    parts = [
        _INTRODUCTION.format(
            command=results.command, date=results.date, minutes=results.minutes, busy=_busy(results.machine)
        ),
        "## Goals\n\n" + goals_table(cases, results.cases) + "\n",
        *(case_section(case, results.cases[case.name]) for case in cases),
        _machine(results),
    ]
    return "\n".join(parts)


def _busy(machine: Machine) -> str:
    if machine.load <= machine.cores * _IDLE_LOAD:
        return ""
    return _BUSY.format(load=machine.load, cores=machine.cores)


def goals_table(cases: Sequence[Case], runs: Mapping[str, Runs]) -> str:
    """Make the table of all goals."""
    rows = [_goal(case, verdict) for case in cases for verdict in judge(case, runs[case.name])]
    return table(("case", "what", "goal", "measured", "in the rounds", ""), rows)


def _goal(case: Case, verdict: Verdict) -> tuple[str, ...]:
    goal = verdict.goal
    bound = f"≥ {goal.at_least:g}" if goal.at_least is not None else f"≤ {goal.at_most:g}"
    what = goal.promise if verdict.beside is None or len(goal.beside) == 1 else f"{goal.promise} ({verdict.beside[0]})"
    around = f"{verdict.rounds.least:,.2f} … {verdict.rounds.most:,.2f}"
    return (f"[{case.name}](#{case.name})", what, bound, f"{verdict.value:,.2f}", around, _said(verdict))


def _said(verdict: Verdict) -> str:
    return "met" if verdict.met else "**missed**"


def case_section(case: Case, runs: Runs) -> str:
    """Tell one case."""
    rows = [(name, *_cells(case.figures, name, runs)) for name in case.contenders if name in runs]
    told = table(("", *(figure.heading for figure in case.figures)), rows)
    note = f"\n{case.note}\n" if case.note else ""
    return f"## {case.name}\n\n{case.question}\n\n{told}\n{note}"


def _cells(figures: Sequence[Figure], contender: str, runs: Runs) -> Iterator[str]:
    known = measured(runs)
    for figure in figures:
        measure = Measure(contender, figure.name)
        yield _cell(spread(runs, measure), figure.digits) if known(measure) else ""


def _cell(values: Spread, digits: int) -> str:
    if values.least == values.most:
        return f"{values.median:,.{digits}f}"
    return f"{values.median:,.{digits}f} ±{(values.most - values.least) / 2 / values.median:.0%}"


def _machine(results: Results) -> str:
    machine = results.machine
    rows = [
        ("processor", f"{machine.processor}, {machine.cores} cores"),
        ("memory", f"{machine.memory_gib:g} GiB"),
        ("system", machine.system),
        ("load before the start", f"{machine.load:g}"),
        ("server", machine.server),
        *machine.versions.items(),
    ]
    return "## machine\n\n" + table(("", ""), rows) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Make a table, numbers to the right."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
