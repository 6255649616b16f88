"""Whether calls wait while the calls of a dead worker are taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.backlog import CPU, RATE, SERVER, between, fill, left, make_group, mark, reached
from benchmarks.case import Case, Goal, Measure
from benchmarks.contenders import ours

if TYPE_CHECKING:
    from benchmarks.case import Figures, Scale
    from benchmarks.processes import Program
    from benchmarks.stage import Stage

_DEAD: Final = "gone-1-0000"
_LEASE_MS: Final = 2_000
_SILENT_MS: Final = 3_600_000
_AT_ONCE: Final = 1_000
_BEGUN, _OVER = 0.95, 0.05
"""Which part of the orphans is left where counting begins and ends: all the while some are taken over."""


def _beside_orphans(stage: Stage, scale: Scale) -> Figures:
    count = scale.of(100_000, quick=5_000)
    lose(stage, count)
    fill(stage, 2 * count)
    worker = worker_for_orphans(stage)
    _orphans_left(stage, worker, int(count * _BEGUN))
    begun = mark(stage, worker, left(stage))
    _orphans_left(stage, worker, int(count * _OVER))
    return between(begun, mark(stage, worker, left(stage)))


def _without(stage: Stage, scale: Scale) -> Figures:
    count = scale.of(100_000, quick=5_000)
    fill(stage, 2 * count)
    worker = worker_for_orphans(stage)
    begun = reached(stage, worker, int(2 * count * _BEGUN))
    return between(begun, reached(stage, worker, int(2 * count * _OVER)))


def worker_for_orphans(stage: Stage) -> Program:
    """Start a worker that soon looks for orphans."""
    return stage.start(ours(), {"TOOLSPAN_LEASE_MS": str(_LEASE_MS)})


def lose(stage: Stage, count: int) -> None:
    """Have *count* calls held by a consumer that has been silent for long."""
    make_group(stage)
    fill(stage, count)
    calls, group = stage.keys.calls, stage.keys.group
    for _ in range(0, count, _AT_ONCE):
        read: Any = stage.look.xreadgroup(group, _DEAD, {calls: ">"}, count=_AT_ONCE)
        ids = [entry_id for entry_id, _ in read[0][1]]
        stage.look.xclaim(calls, group, _DEAD, 0, ids, idle=_SILENT_MS, justid=True)


def _orphans_left(stage: Stage, worker: Program, most: int) -> None:
    stage.until(lambda: _orphans(stage) <= most, f"no more than {most} orphans are left", worker)


def _orphans(stage: Stage) -> int:
    consumers: Any = stage.look.xinfo_consumers(stage.keys.calls, stage.keys.group)
    return sum(one["pending"] for one in consumers if one["name"] == _DEAD.encode())


CASE: Final = Case(
    "reclaim",
    "Is a worker slower while it takes over the calls of one that died?",
    (RATE, CPU, SERVER),
    {"new calls only": _without, "beside 100 000 orphans": _beside_orphans},
    (
        Goal(
            "rate while 100 000 orphans are reclaimed beside new calls only",
            Measure("beside 100 000 orphans", "rate"),
            (Measure("new calls only", "rate"),),
            at_least=0.9,
        ),
    ),
    rounds=5,
    note="Both kinds of calls count, from when one worker begins to take orphans over until few are left.",
)
