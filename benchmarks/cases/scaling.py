"""What a second worker process gives."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from benchmarks.backlog import CPU, HELD_BACK, RATE, SERVER, drained, fill, let_in, warm
from benchmarks.case import Case, Figure, Goal, Measure
from benchmarks.contenders import ours

if TYPE_CHECKING:
    from benchmarks.case import Figures, Run, Scale
    from benchmarks.processes import Program
    from benchmarks.stage import Stage

_COMPUTING: Final = "benchmarks.busy"


def _started(stage: Stage, *, count: int, tools: str) -> Program:
    worker = stage.start(ours("--processes", str(count), "--concurrency", "200", tools=tools))
    stage.until(lambda: stage.look.zcard(stage.keys.workers) == count, f"there are {count} workers", worker)
    return worker


def _processes(count: int, tools: str, calls: int) -> Run:
    def run(stage: Stage, scale: Scale) -> Figures:
        waiting = scale.of(calls, quick=calls // 10)
        if tools == _COMPUTING:
            fill(stage, waiting, tool="compute", args={}, stream=HELD_BACK)
        else:
            fill(stage, waiting, stream=HELD_BACK)
        worker = warm(stage, partial(_started, count=count, tools=tools))
        let_in(stage)
        figures = drained(stage, worker, waiting)
        cores = len(os.sched_getaffinity(0))
        return {**figures, "machine": figures["busy"] / cores * 100, "core": figures["server_busy"] * 100}

    return run


CASE: Final = Case(
    "scaling",
    "What does a second worker process give?",
    (RATE, CPU, SERVER, Figure("machine", "of all cores, %"), Figure("core", "server, of one core, %")),
    {
        "no-op, one process": _processes(1, "benchmarks.noop", 80_000),
        "no-op, two processes": _processes(2, "benchmarks.noop", 80_000),
        "computing, one process": _processes(1, _COMPUTING, 10_000),
        "computing, two processes": _processes(2, _COMPUTING, 10_000),
    },
    (
        Goal(
            "two processes beside one, where the tool computes",
            Measure("computing, two processes", "rate"),
            (Measure("computing, one process", "rate"),),
            at_least=1.8,
        ),
        Goal(
            "two processes beside one, no-op",
            Measure("no-op, two processes", "rate"),
            (Measure("no-op, one process", "rate"),),
            at_least=1.8,
        ),
    ),
    note="A no-op call takes the server nearly as long as the worker, so that one process and the server come close to "
    "two cores already, and two processes can be but a little faster. That they are slower is due to the kernel: it "
    "often wakes the server on the core of the worker that has just written to it, and the other core stays idle; see "
    "the decision on what a call costs.",
)
