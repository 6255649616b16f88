"""What a call costs beside the bare loop, when nothing is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.backlog import COMMANDS, CPU, HELD_BACK, RATE, SERVER, drained, fill, let_in, warm
from benchmarks.case import Case, Goal, Measure
from benchmarks.contenders import REFERENCE, TOOLSPAN, WIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.case import Figures, Run, Scale
    from benchmarks.contenders import Contender
    from benchmarks.stage import Stage


FOUND: Final = f"{WIDE.name}, found waiting"


def draining(contender: Contender, calls: int, *, quick: int) -> Run:
    """Make a run that has *contender* drain a backlog of *calls* no-op calls with a reply that it finds."""

    def run(stage: Stage, scale: Scale) -> Figures:
        count = scale.of(calls, quick=quick)
        contender.fill(stage, count)
        return drained(stage, contender.start(stage), count, contender.left)

    return run


def _hold(stage: Stage, count: int) -> None:
    fill(stage, count, stream=HELD_BACK)


def bursting(
    contender: Contender,
    calls: int,
    *,
    quick: int,
    hold: Callable[[Stage, int], object] = _hold,
) -> Run:
    """Make a run in which *calls* come all at once to *contender*, who is up and waits for them.

    *hold* holds them back until then.
    """

    def run(stage: Stage, scale: Scale) -> Figures:
        count = scale.of(calls, quick=quick)
        hold(stage, count)
        worker = warm(stage, contender.start)
        let_in(stage)
        return drained(stage, worker, count)

    return run


CASE: Final = Case(
    "drain",
    "How fast does one worker process settle no-op calls with a reply?",
    (RATE, CPU, SERVER, COMMANDS),
    {
        **{contender.name: bursting(contender, 100_000, quick=10_000) for contender in (REFERENCE, WIDE, TOOLSPAN)},
        FOUND: draining(WIDE, 100_000, quick=10_000),
    },
    (
        Goal("rate beside the bare loop", Measure(WIDE.name, "rate"), (Measure("reference", "rate"),), at_least=1.0),
        Goal("CPU beside the bare loop", Measure(WIDE.name, "cpu"), (Measure("reference", "cpu"),), at_most=2.0),
        Goal("Redis commands for a settled call", Measure(WIDE.name, "commands"), at_most=1.2),
    ),
    note="100 000 calls come at once; one tenth is drained before counting begins. The bare loop holds 200 deliveries "
    "at most, for it reads 100 ahead of those that it runs; with `--concurrency 200` so does ours. By default it holds "
    "100, and settles 50 of them while it runs the other 50. Of calls that were there before it, a worker has to ask "
    "whether they were given up meanwhile.",
)
