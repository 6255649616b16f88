"""What a case of the benchmarks is, as data: who takes turns, what is measured of each, and what was promised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from benchmarks.stage import Stage

Figures: TypeAlias = Mapping[str, float]
"""What one run gave: figure to number."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is done: enough to be measured, or just enough to see that everything works."""

    quick: bool = False

    def of(self, full: int, *, quick: int) -> int:
        """Give *full*, or *quick*."""
        return quick if self.quick else full


Run: TypeAlias = Callable[[Stage, Scale], Figures]
"""One run of one contender on a stage of its own."""


class Figure(NamedTuple):
    """One number that is measured: what a column says of it, and how many digits of it mean something."""

    name: str
    heading: str
    digits: int = 0


class Measure(NamedTuple):
    """One figure of one contender."""

    contender: str
    figure: str


@dataclass(frozen=True, slots=True)
class Goal:
    """What was promised of *of*, beside the best of *beside*, or of itself if there is none.

    *how* says what is held against the bound: the ratio of both or their difference.
    """

    promise: str
    of: Measure
    beside: tuple[Measure, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    how: Literal["ratio", "difference"] = "ratio"


@dataclass(frozen=True, slots=True)
class Case:
    """Contenders that take turns, *rounds* times."""

    name: str
    question: str
    figures: tuple[Figure, ...]
    contenders: Mapping[str, Run]
    goals: tuple[Goal, ...]
    rounds: int = 5
    note: str = ""
