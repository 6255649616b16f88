"""How long a caller waits when there is little to do."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING, Final

from benchmarks.case import Case, Figure, Goal, Measure
from benchmarks.contenders import ORIGINAL, REFERENCE, TOOLSPAN
from benchmarks.peers.contenders import PEERS
from benchmarks.processes import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.case import Figures, Run, Scale
    from benchmarks.contenders import Contender
    from benchmarks.stage import Stage

CALLS_A_SECOND: Final = 200
_CONTENDERS: Final = (REFERENCE, TOOLSPAN, ORIGINAL, *PEERS)


def _calling(contender: Contender) -> Run:
    def run(stage: Stage, scale: Scale) -> Figures:
        contender.prepare(stage)
        contender.start(stage)
        rate, seconds = str(CALLS_A_SECOND), str(scale.of(5, quick=2))
        took: list[float | None] = json.loads(contender.call(stage, rate, seconds))
        ms = sorted(one * 1000 for one in took if one is not None)
        if not ms:
            message = "no call was answered"
            raise Failure(message)
        failed = (len(took) - len(ms)) / len(took) * 100
        return {"p50": statistics.median(ms), "p99": _percentile(ms, 0.99), "most": ms[-1], "failed": failed}

    return run


def _percentile(values: Sequence[float], part: float) -> float:
    return values[min(len(values) - 1, int(len(values) * part))]


CASE: Final = Case(
    "latency",
    f"How long does a caller wait for the reply to a no-op call, at {CALLS_A_SECOND} calls a second?",
    (
        Figure("p50", "p50 ms", 2),
        Figure("p99", "p99 ms", 2),
        Figure("most", "longest ms", 1),
        Figure("failed", "failed, %", 1),
    ),
    {contender.name: _calling(contender) for contender in _CONTENDERS},
    (
        Goal(
            "p50 beside the bare loop and a bare caller",
            Measure("toolspan", "p50"),
            (Measure("reference", "p50"),),
            at_most=1.2,
        ),
        Goal(
            "p99 beside the best of the peers",
            Measure("toolspan", "p99"),
            tuple(Measure(peer.name, "p99") for peer in PEERS),
            at_most=1.0,
        ),
    ),
    rounds=5,
    note="From one process that begins a call every 5 ms, whatever becomes of those before. Each waits in the way that "
    "its library has for it, with the intervals that it has; some of them poll.",
)
