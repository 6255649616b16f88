"""Whether a worker grows with the calls that it has run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.backlog import fill, left, reached
from benchmarks.case import Case, Figure, Goal, Measure
from benchmarks.contenders import TOOLSPAN

if TYPE_CHECKING:
    from benchmarks.case import Figures, Scale
    from benchmarks.stage import Stage

_FEW: Final = 10_000
_MANY: Final = 1_000_000


def _run(stage: Stage, scale: Scale) -> Figures:
    shrink = scale.of(1, quick=20)
    worker = TOOLSPAN.start(stage)
    stage.until(lambda: bool(stage.look.exists(stage.keys.workers)), "the worker is there", worker)
    fill(stage, _FEW // shrink)
    reached(stage, worker, 0)
    early = worker.rss_mib()
    fill(stage, (_MANY - _FEW) // shrink)
    reached(stage, worker, 0)
    return {"early": early, "late": worker.rss_mib(), "left": left(stage)}


CASE: Final = Case(
    "memory",
    "Does a worker grow?",
    (Figure("early", "RSS MiB after 10 000 calls", 1), Figure("late", "after 1 000 000", 1)),
    {"toolspan": _run},
    (
        Goal(
            "RSS after 1 000 000 calls beside after 10 000",
            Measure("toolspan", "late"),
            (Measure("toolspan", "early"),),
            at_most=1.1,
        ),
    ),
    rounds=1,
)
