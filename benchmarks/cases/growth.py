"""Whether a plane that has grown is slower."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from benchmarks.backlog import (
    CPU,
    HELD_BACK,
    RATE,
    SERVER,
    append,
    between,
    fill,
    left,
    let_in,
    make_group,
    mark,
    reached,
    warm,
)
from benchmarks.case import Case, Goal, Measure
from benchmarks.contenders import TOOLSPAN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.case import Figures, Run, Scale
    from benchmarks.processes import Program
    from benchmarks.stage import Stage

_FEW: Final = 10_000
_MANY: Final = 1_000_000
_STRETCH: Final = 8_000
_STRETCHES: Final = 4
FEW: Final = "10 000 waiting"
MANY: Final = "1 000 000 waiting"
LETTERS: Final = "10 000 dead letters"
CONSUMERS: Final = "1 000 consumers"
_UNREADABLE: Final = ["v", "1", "id", "?"]
"""An entry that names no tool: it becomes a dead letter, like every one that cannot be read."""


def _drained_after(prepare: Callable[[Stage, int], None], *, waiting: int = 0) -> Run:
    """Make a run that drains some thousand calls several times, on a plane that *prepare* has made.

    Counting begins once no more than *waiting* calls are left of that.
    """

    def run(stage: Stage, scale: Scale) -> Figures:
        shrink = scale.of(1, quick=10)
        make_group(stage)
        prepare(stage, shrink)
        worker = warm(stage, TOOLSPAN.start)
        let_in(stage)
        reached(stage, worker, waiting // shrink)
        _, *stretches = [_stretch(stage, worker, shrink) for _ in range(1 + _STRETCHES)]
        return {name: statistics.median(stretch[name] for stretch in stretches) for name in stretches[0]}

    return run


def _stretch(stage: Stage, worker: Program, shrink: int) -> Mapping[str, float]:
    missing = _FEW // shrink - left(stage)
    if missing > 0:
        fill(stage, missing)
    begun = mark(stage, worker, left(stage))
    return between(begun, reached(stage, worker, max(0, begun.left - _STRETCH // shrink)))


def _letters(stage: Stage, shrink: int) -> None:
    append(stage, _FEW // shrink, _UNREADABLE)


def _consumers(stage: Stage, shrink: int) -> None:
    for number in range(1000 // shrink):
        stage.look.xgroup_createconsumer(stage.keys.calls, stage.keys.group, f"gone-{number}-0000")


def _goal(of: str, promise: str) -> Goal:
    return Goal(promise, Measure(of, "rate"), (Measure(FEW, "rate"),), at_least=0.9)


CASE: Final = Case(
    "growth",
    "Is a worker slower where much lies around?",
    (RATE, CPU, SERVER),
    {
        FEW: _drained_after(lambda _, __: None),
        MANY: _drained_after(
            lambda stage, shrink: fill(stage, _MANY // shrink, stream=HELD_BACK), waiting=_MANY - _FEW
        ),
        LETTERS: _drained_after(_letters),
        CONSUMERS: _drained_after(_consumers),
    },
    (
        _goal(MANY, "rate with 1 000 000 waiting beside 10 000"),
        _goal(LETTERS, "rate with 10 000 dead letters beside none"),
        _goal(CONSUMERS, "rate with 1 000 consumers in the group beside one"),
    ),
    note=f"Each run is the median of {_STRETCHES} stretches of {_STRETCH} calls, of one worker.",
)
