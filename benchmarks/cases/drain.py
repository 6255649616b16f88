"""What a call costs beside the bare loop, when nothing is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.backlog import COMMANDS, CPU, RATE, SERVER, drained
from benchmarks.case import Case, Goal, Measure
from benchmarks.contenders import REFERENCE, TOOLSPAN

if TYPE_CHECKING:
    from benchmarks.case import Figures, Run, Scale
    from benchmarks.contenders import Contender
    from benchmarks.stage import Stage


def draining(contender: Contender, calls: int, *, quick: int) -> Run:
    """Make a run that has *contender* drain a backlog of *calls* no-op calls with a reply."""

    def run(stage: Stage, scale: Scale) -> Figures:
        count = scale.of(calls, quick=quick)
        contender.fill(stage, count)
        return drained(stage, contender.start(stage), count, contender.left)

    return run


CASE: Final = Case(
    "drain",
    "How fast does one worker process settle no-op calls with a reply?",
    (RATE, CPU, SERVER, COMMANDS),
    {contender.name: draining(contender, 100_000, quick=10_000) for contender in (REFERENCE, TOOLSPAN)},
    (
        Goal("rate beside the bare loop", Measure("toolspan", "rate"), (Measure("reference", "rate"),), at_least=1.0),
        Goal("Redis commands for a settled call", Measure("toolspan", "commands"), at_most=1.2),
    ),
    note="A backlog of 100 000 calls; one tenth is drained before counting begins.",
)
