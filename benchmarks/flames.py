"""`make flames`: draws where the time of a worker goes, as flame graphs of the stacks that py-spy sees.

It looks into another process, which takes the right to do so: on most machines that is root's.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.backlog import fill, left, let_in, warm
from benchmarks.cases.reclaim import lose, worker_for_orphans
from benchmarks.cases.traced import SOME_SECONDS, fill_traced, with_sink
from benchmarks.contenders import WIDE
from benchmarks.peers.environments import uv
from benchmarks.processes import ROOT, Failure
from benchmarks.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.processes import Program

DRAWN: Final = ROOT / "docs" / "images" / "flames"
_PY_SPY: Final = "py-spy==0.4.3"
_TITLE: Final = re.compile(r"""(<text id="title"[^>]*>)[^<]*(</text>)""")
_SECONDS: Final = 1
_TIMES_A_SECOND: Final = 1_000


def _plain(stage: Stage) -> Program:
    fill_traced(stage, SOME_SECONDS, 1.0)
    return _let_in(stage, {})


def _traced(stage: Stage, *, sampled: float) -> Program:
    fill_traced(stage, SOME_SECONDS, sampled)
    _, variables = with_sink(stage)
    return _let_in(stage, variables)


def _orphans(stage: Stage) -> Program:
    lose(stage, SOME_SECONDS)
    fill(stage, SOME_SECONDS)
    worker = worker_for_orphans(stage)
    # It looks for them once it has been connected for half a lease; until then it takes new calls.
    stage.until(lambda: "reclaimed" in _newest_event(stage), "orphans are taken over", worker)
    return worker


def _newest_event(stage: Stage) -> str:
    return str(stage.look.xrevrange(stage.keys.events, count=1))


def _let_in(stage: Stage, variables: Mapping[str, str]) -> Program:
    worker = warm(stage, lambda stage: stage.start(WIDE.worker(), variables))
    let_in(stage)
    return worker


WORKERS: Final[Mapping[str, Callable[[Stage], Program]]] = {
    "untraced": _plain,
    "traced": partial(_traced, sampled=1.0),
    "one-in-ten-sampled": partial(_traced, sampled=0.1),
    "none-sampled": partial(_traced, sampled=0.0),
    "orphans": _orphans,
}


def main() -> int:
    """Draw all of them, or those that were named."""
    DRAWN.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or WORKERS:
        with Stage() as stage:
            _draw(WORKERS[name](stage), DRAWN / f"{name}.svg")
            if not left(stage):
                message = f"{name}: the last call was settled before the time was over"
                raise Failure(message)
    return 0


def _draw(worker: Program, into: Path) -> None:
    title = f"A worker, {into.stem.replace('-', ' ')}: where it was each ms that it had the interpreter"
    record = ["record", "--gil", "--rate", str(_TIMES_A_SECOND), "--duration", str(_SECONDS), "--output", str(into)]
    py_spy = [uv(), "tool", "run", "--quiet", "--from", _PY_SPY, "py-spy", *record, "--pid", str(worker.pid)]
    done = subprocess.run(py_spy, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stderr)
    # Where ours is, is nobody's business.
    into.write_text(_TITLE.sub(rf"\g<1>{title}\g<2>", into.read_text()))


if __name__ == "__main__":
    sys.exit(main())
