"""Those we are compared with, as contenders: how many calls each has left is for Redis to tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders import Contender, not_acknowledged
from benchmarks.peers.environments import python_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.stage import Stage

_STREAM: Final = "calls"
"""What those call it who leave the name to the user."""


def _peer(name: str, left: Callable[[Stage], Any], prepare: Callable[[Stage], None] = lambda _: None) -> Contender:
    def program(*what: str) -> tuple[str, ...]:
        return (python_of(name), "-m", "benchmarks.peers.program", name, *what)

    def fill(stage: Stage, count: int) -> None:
        prepare(stage)
        stage.start(program("fill", str(count))).said()

    return Contender(name, lambda: program("work"), lambda: program("pace"), fill, left, prepare)


def _from_the_beginning(stage: Stage) -> None:
    """Make the group that would begin with what comes after its worker's start otherwise."""
    stage.look.xgroup_create(_STREAM, "workers", "0", mkstream=True)


PEERS: Final = (
    _peer("arq", lambda stage: stage.look.zcard("arq:queue")),
    _peer("docket", lambda stage: stage.look.xlen("docket:stream")),
    _peer("faststream", lambda stage: not_acknowledged(stage, _STREAM), _from_the_beginning),
    _peer("saq", lambda stage: stage.look.zcard("saq:default:incomplete")),
    _peer("streaq", lambda stage: stage.look.xlen("streaq:default:queues:normal")),
    _peer("taskiq_redis", lambda stage: not_acknowledged(stage, _STREAM)),
)
