"""What a second worker process gives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from benchmarks.backlog import CPU, HELD_BACK, RATE, SERVER, drained, fill, let_in, warm
from benchmarks.case import Case, Figure, Goal, Measure
from benchmarks.contenders import TOOLS, ours, python

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.case import Figures, Run, Scale
    from benchmarks.processes import Program
    from benchmarks.stage import Stage

_COMPUTING: Final = "benchmarks.busy"


def _ours(count: int, tools: str) -> Callable[[Stage], Program]:
    def start(stage: Stage) -> Program:
        worker = stage.start(ours("--processes", str(count), "--concurrency", "200", tools=tools))
        stage.until(lambda: stage.look.zcard(stage.keys.workers) == count, f"there are {count} workers", worker)
        return worker

    return start


def _bare_loops(count: int) -> Callable[[Stage], Program]:
    def start(stage: Stage) -> Program:
        loops = stage.start(python("benchmarks.reference", str(count)))
        stage.until(lambda: _readers(stage) == count, f"{count} loops read", loops)
        return loops

    return start


def _readers(stage: Stage) -> int:
    groups: Any = stage.look.xinfo_groups(stage.keys.calls)
    return int(groups[0]["consumers"])


def _draining(start: Callable[[Stage], Program], calls: int, **call: Any) -> Run:
    def run(stage: Stage, scale: Scale) -> Figures:
        waiting = scale.of(calls, quick=calls // 10)
        fill(stage, waiting, **call, stream=HELD_BACK)
        worker = warm(stage, start)
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
        "no-op, one process": _draining(_ours(1, TOOLS), 80_000),
        "no-op, two processes": _draining(_ours(2, TOOLS), 80_000),
        "bare loop, one process": _draining(_bare_loops(1), 80_000),
        "bare loop, two processes": _draining(_bare_loops(2), 80_000),
        "computing, one process": _draining(_ours(1, _COMPUTING), 10_000, tool="compute", args={}),
        "computing, two processes": _draining(_ours(2, _COMPUTING), 10_000, tool="compute", args={}),
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
    note="Two bare loops show what is to be had: a no-op call takes the server nearly as long as the worker, so that "
    "one process and the server come close to two cores already. That two processes are slower than one is due to "
    "the kernel: it often wakes the server on the core of the worker that has just written to it, and the other "
    "core stays idle; see the decision on what a call costs.",
)
