"""Has the contenders of a case take turns: each round sees the machine in the state in which the others see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.case import Scale
from benchmarks.processes import Failure
from benchmarks.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.case import Case
    from benchmarks.results import Runs


def take_turns(case: Case, scale: Scale, *, rounds: int, tell: Callable[[str], None]) -> Runs:
    """Run all contenders in turn, *rounds* times, and give the figures of each run."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in case.contenders}
    for number in range(1, rounds + 1):
        for name, run in case.contenders.items():
            tell(f"{case.name}, round {number} of {rounds}: {name}")
            with Stage() as stage:
                try:
                    runs[name].append(dict(run(stage, scale)))
                except Failure as exc:
                    message = f"{case.name}, {name}: {exc}"
                    raise Failure(message) from exc
    return runs
