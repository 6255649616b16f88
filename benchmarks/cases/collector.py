"""Whether calls are slower while the collector is in trouble."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from benchmarks import sink
from benchmarks.backlog import CPU, RATE, drained, let_in, warm
from benchmarks.case import Case, Goal, Measure
from benchmarks.cases.traced import fill_traced
from benchmarks.contenders import WIDE, python

if TYPE_CHECKING:
    from benchmarks.case import Figures, Run, Scale
    from benchmarks.stage import Stage

FINE: Final = "one that takes all"
ABSENT: Final = "none there"
_CALLS: Final = 100_000


def _exporting(trouble: str) -> Run:
    """Make a run that drains calls which are all traced, while the collector is in *trouble*."""

    def run(stage: Stage, scale: Scale) -> Figures:
        count = scale.of(_CALLS, quick=5_000)
        fill_traced(stage, count, 1.0)
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{_port(stage, trouble)}"}
        worker = warm(stage, lambda stage: stage.start(WIDE.worker(), variables))
        let_in(stage)
        return drained(stage, worker, count)

    return run


def _port(stage: Stage, trouble: str) -> int:
    if trouble == ABSENT:
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port: int = nobody.getsockname()[1]
            return port
    modes = () if trouble == FINE else (trouble,)
    return int(stage.start(python("benchmarks.sink", *modes), hears=True).line())


_TROUBLES: Final = (ABSENT, sink.SLOW, sink.REFUSING, sink.HANGING, sink.GARBAGE)

CASE: Final = Case(
    "collector",
    "Are calls slower while the collector is in trouble?",
    (RATE, CPU),
    {trouble: _exporting(trouble) for trouble in (FINE, *_TROUBLES)},
    tuple(
        Goal(
            f"rate of calls that are all traced, collector: {trouble}, beside one that takes all",
            Measure(trouble, "rate"),
            (Measure(FINE, "rate"),),
            at_least=0.99,
        )
        for trouble in _TROUBLES
    ),
    rounds=3,
    note="Until the last call is settled: what is exported after that delays nobody. What the queue has no room for "
    f"meanwhile is dropped, and counted. The slow one answers after {sink.SLOW_SECONDS:g} seconds, the hanging one "
    "never does, the refusing one says 503, and of the garbage one every answer is unreadable.",
)
