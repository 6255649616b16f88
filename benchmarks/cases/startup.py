"""How long it takes until something can be done."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from benchmarks.backlog import fill
from benchmarks.case import Case, Figure, Goal, Measure
from benchmarks.contenders import TOOLSPAN

if TYPE_CHECKING:
    from benchmarks.case import Figures, Run, Scale
    from benchmarks.stage import Stage

_IMPORTS: Final = {
    "import toolspan": "import toolspan",
    "all of its names": "from toolspan import *",
    "import redis.asyncio": "import redis.asyncio",
    "import pydantic_settings": "import pydantic_settings",
    "import opentelemetry.sdk": "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics",
}
_DEPENDENCIES: Final = tuple(Measure(name, "ms") for name in list(_IMPORTS)[2:])
_WORKER: Final = "worker to its first reply"


def _importing(statement: str) -> Run:
    def run(stage: Stage, _: Scale) -> Figures:
        return {"ms": _ms(stage, statement) - _ms(stage, "pass")}

    return run


def _ms(stage: Stage, statement: str) -> float:
    began = time.perf_counter()
    stage.start((sys.executable, "-c", statement)).said()
    return (time.perf_counter() - began) * 1000


def _first_reply(stage: Stage, _: Scale) -> Figures:
    fill(stage, 1)
    replies = stage.keys.replies("bench")
    began = time.perf_counter()
    worker = TOOLSPAN.start(stage)
    stage.until(lambda: bool(stage.look.exists(replies)), "the first reply is there", worker)
    return {"ms": (time.perf_counter() - began) * 1000}


CASE: Final = Case(
    "startup",
    "How long does it take until something can be done?",
    (Figure("ms", "ms"),),
    {**{name: _importing(statement) for name, statement in _IMPORTS.items()}, _WORKER: _first_reply},
    (
        Goal(
            "ms that importing toolspan takes beyond its heaviest dependency",
            Measure("import toolspan", "ms"),
            _DEPENDENCIES,
            at_most=150,
            how="difference",
        ),
        Goal("ms from the start of a worker to its first reply", Measure(_WORKER, "ms"), at_most=1000),
    ),
    rounds=7,
    note="Its names are loaded when they are asked for; whoever asks for all of them pays for all that they need. "
    "What a bare interpreter takes to start is taken off the imports, not off the worker. Modules are compiled.",
)
