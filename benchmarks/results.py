"""What was measured: kept as JSON, read as medians and as goals that are met or missed."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from benchmarks.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.case import Case, Goal, Measure

Runs: TypeAlias = dict[str, list[dict[str, float]]]
"""Contender to its runs, in rounds: the first runs of all belong together."""

KEPT: Final = Path(__file__).parent / "results.json"


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of all cases that were run, and where and when that was."""

    machine: Machine
    date: str
    command: str
    minutes: float
    cases: dict[str, Runs]

    @classmethod
    def load(cls, path: Path = KEPT) -> Results:
        """Read what was kept."""
        known: dict[str, Any] = json.loads(path.read_text())
        return cls(**{**known, "machine": Machine(**known["machine"])})

    def keep(self, path: Path = KEPT) -> None:
        """Write it down."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some runs, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Look at *values*."""
        return cls(statistics.median(values), min(values), max(values))


def spread(runs: Runs, measure: Measure) -> Spread:
    """Tell what the runs gave for one figure."""
    return Spread.of([run[measure.figure] for run in runs[measure.contender]])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a goal: *value* is held against its bound, *rounds* is what each round would have given."""

    goal: Goal
    beside: Measure | None
    value: float
    rounds: Spread

    @property
    def met(self) -> bool:
        """Whether it was met, as it is told: with two digits."""
        value = round(self.value, 2)
        least, most = self.goal.at_least, self.goal.at_most
        return (least is None or value >= least) and (most is None or value <= most)


def judge(case: Case, runs: Runs) -> list[Verdict]:
    """Hold the medians against what was promised, as far as it was measured: a case may have grown since."""
    return [_verdict(goal, runs) for goal in case.goals if all(map(measured(runs), (goal.of, *goal.beside)))]


def measured(runs: Runs) -> Callable[[Measure], bool]:
    """Give what tells whether a figure is known."""
    return lambda measure: all(measure.figure in run for run in runs.get(measure.contender) or [{}])


def _verdict(goal: Goal, runs: Runs) -> Verdict:
    of = [run[goal.of.figure] for run in runs[goal.of.contender]]
    if not goal.beside:
        return Verdict(goal, None, statistics.median(of), Spread.of(of))
    # The hardest one: what it is to be above, or below, is the best that others do.
    best = max if goal.at_least is not None else min
    hardest = best if goal.how == "ratio" else max
    beside = hardest(goal.beside, key=lambda measure: spread(runs, measure).median)
    other = [run[beside.figure] for run in runs[beside.contender]]
    compare = _COMPARE[goal.how]
    rounds = [compare(one, another) for one, another in zip(of, other, strict=True)]
    return Verdict(goal, beside, compare(statistics.median(of), statistics.median(other)), Spread.of(rounds))


_COMPARE: Final[dict[str, Callable[[float, float], float]]] = {
    "ratio": lambda one, another: one / another,
    "difference": lambda one, another: one - another,
}
