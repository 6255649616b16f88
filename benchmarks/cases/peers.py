"""The same beside those that do the same, at the settings that their documentation recommends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.backlog import COMMANDS, CPU, RATE, SERVER
from benchmarks.case import Case, Goal, Measure
from benchmarks.cases.drain import draining
from benchmarks.cases.traced import SOME_SECONDS, TRACED, tracing
from benchmarks.contenders import ORIGINAL, REFERENCE, TOOLSPAN
from benchmarks.peers.contenders import PEERS

if TYPE_CHECKING:
    from benchmarks.contenders import Contender


def _calls(contender: Contender) -> int:
    """Have everybody busy for about as long."""
    return 60_000 if contender in (TOOLSPAN, REFERENCE) else 3_000


def rate_of(contender: str) -> Measure:
    """Name the rate of one of them."""
    return Measure(contender, RATE.name)


CASE: Final = Case(
    "peers",
    "How fast does one worker process of others settle no-op calls with a reply?",
    (RATE, CPU, SERVER, COMMANDS),
    {
        contender.name: draining(contender, _calls(contender), quick=1_000)
        for contender in (REFERENCE, TOOLSPAN, ORIGINAL, *PEERS)
    }
    | {TRACED: tracing(1.0, SOME_SECONDS, quick=2_000)},
    (
        Goal(
            "rate of calls that are all traced beside the fastest peer without telemetry",
            rate_of(TRACED),
            tuple(rate_of(peer.name) for peer in PEERS),
            at_least=10,
        ),
    ),
    rounds=3,
    note="Without telemetry where nothing else is said, and without a line for each call. Their concurrency is ours, "
    "and uvloop theirs where they leave it to the user; docket runs 80 at once, for with 100 it runs out of the "
    "connections that it allows itself. The versions are pinned in `benchmarks/peers/requirements/`.",
)
