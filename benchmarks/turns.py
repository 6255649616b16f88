"""Has the contenders of a case take turns: each round sees the machine in the state in which the others see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.case import Scale
from benchmarks.processes import Failure
from benchmarks.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.case import Case, Run
    from benchmarks.results import Runs


def take_turns(case: Case, scale: Scale, *, rounds: int, tell: Callable[[str], None]) -> Runs:
    """Run all contenders in turn, *rounds* times, and give the figures of each run."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in case.contenders}
    for number in range(1, rounds + 1):
        for name, run in case.contenders.items():
            told = f"{case.name}, round {number} of {rounds}: {name}"
            tell(told)
            try:
                figures = _once(run, scale)
            except Failure as exc:
                # Others fall over at times where much else goes on; that shall not cost all that was measured so far.
                tell(f"{told}, once more: {exc}")
                figures = _once(run, scale)
            runs[name].append(figures)
    return runs


def _once(run: Run, scale: Scale) -> dict[str, float]:
    with Stage() as stage:
        return dict(run(stage, scale))
