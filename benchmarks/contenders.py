"""Who takes turns: we, the bare loop, and the design that ours replaces."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from benchmarks.backlog import fill, left, make_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.processes import Program
    from benchmarks.stage import Stage

TOOLS: Final = "benchmarks.noop"


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who runs calls: the commands of its worker and of its caller, how calls get to it, how many are left.

    What has to be there before its worker starts, *prepare* makes. The caller is told the rate and the seconds, and
    writes a JSON list of how long each call took, in seconds; null if it has failed.
    """

    name: str
    worker: Callable[[], tuple[str, ...]]
    caller: Callable[[], tuple[str, ...]]
    fill: Callable[[Stage, int], None]
    left: Callable[[Stage], int]
    prepare: Callable[[Stage], None] = make_group
    variables: Mapping[str, str] = field(default_factory=dict)

    def start(self, stage: Stage) -> Program:
        """Start its worker."""
        return stage.start(self.worker(), self.variables)

    def call(self, stage: Stage, *numbers: str) -> str:
        """Run its caller, and give what that has to say."""
        return stage.start((*self.caller(), *numbers), hears=True).said()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Give the command that runs a module in our own environment."""
    return (sys.executable, "-m", module, *arguments)


def ours(*arguments: str, tools: str = TOOLS) -> tuple[str, ...]:
    """Give the command of a worker of ours."""
    return python("toolspan", "worker", "--tools", tools, "--log-level", "error", *arguments)


def not_acknowledged(stage: Stage, stream: str) -> int:
    """Count what the one group of a stream was not given, and what it has not acknowledged: some delete nothing."""
    [group] = stage.look.xinfo_groups(stream)
    told: dict[str, Any] = group
    return int(told["lag"]) + int(told["pending"])


TOOLSPAN: Final = Contender("toolspan", ours, lambda: python("benchmarks.callers.toolspan"), fill, left)
WIDE: Final = Contender(
    "toolspan, 200 at once",
    lambda: ours("--concurrency", "200"),
    lambda: python("benchmarks.callers.toolspan"),
    fill,
    left,
)
REFERENCE: Final = Contender(
    "reference", lambda: python("benchmarks.reference"), lambda: python("benchmarks.callers.reference"), fill, left
)
ORIGINAL: Final = Contender(
    "original design",
    lambda: python("benchmarks.original"),
    REFERENCE.caller,
    fill,
    lambda stage: not_acknowledged(stage, stage.keys.calls),
)
