"""What `make drill` does: each fault, how it is undone, and the alerts that it should raise."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from tests.stack import faults
from tests.stack.process import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack.chain import Chain

SLOTS: Final = 32
"""Of the two workers together."""
CRASHED: Final = 12
FROZEN_SECONDS: Final = 20
MEMORY: Final = 256 << 20
"""What Redis may use, in the stack."""

HOUR: Final = "when its window is over, an hour after the last"
HALF_AN_HOUR: Final = "when its shorter window is over, after half an hour"
NEVER: Final = "never; its absence is the alarm"

ONLY_PROMTOOL: Final = {
    "ToolspanSLOBurn1d": "its shorter window is two hours: on a plane with a past it takes as long",
    "ToolspanSLOBurn3d": "its shorter window is six hours",
    "ToolspanDeadLettersNotDrained": "a dead letter has to lie there for a day",
}
"""Alerts that no fault raises within minutes, and why; their proof is in tests/rules alone."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, and what it should raise within *within* seconds."""

    what: str
    alerts: tuple[str, ...]
    cause: Callable[[Chain], None] | None = None
    """None: it is there from the beginning."""
    undo: Callable[[Chain], None] | None = None
    """None: it ends by itself."""
    within: float = 420.0
    clears: str = ""
    """When it clears, where that is not waited for."""


@dataclass(frozen=True, slots=True)
class Drill:
    """Faults that are made one after the other on one stack."""

    faults: tuple[Fault, ...]
    load: bool = True
    """Calls all the while, some with callers that give up."""
    from_the_load: tuple[Fault, ...] = field(default=())
    """What the load raises by itself."""


def _malformed(chain: Chain) -> None:
    faults.malformed(chain, faults.MALFORMED)


def _lose(chain: Chain) -> None:
    faults.lose_a_call(chain)


def _held(chain: Chain) -> int:
    return int(cast("Any", chain.redis().xpending(faults.KEYS.calls, faults.KEYS.group))["pending"])


def _break_the_replies(chain: Chain) -> None:
    client = chain.redis()
    with ThreadPoolExecutor(1) as caller:
        waiting = caller.submit(chain.call, "summarise", seconds=20, text="x")
        until(lambda: _held(chain), "it runs", within=20)
        for key in client.scan_iter(f"{faults.KEYS.reply_prefix}*"):
            client.set(key, "not a stream", ex=60)
        waiting.result()


def _refuse(chain: Chain) -> None:
    chain.backends.refusing = True


def _take(chain: Chain) -> None:
    chain.backends.refusing = False


def _poison(chain: Chain) -> None:
    for _ in range(6):
        chain.send_and_leave("render", page="/")


def _kill_workers(chain: Chain) -> None:
    faults.kill_every_worker(chain)
    for tool in ("search", "summarise"):
        chain.send_and_leave(tool, **({"query": "x"} if tool == "search" else {"text": "x"}))


def _freeze(chain: Chain) -> None:
    chain["redis"].send(signal.SIGSTOP)


def _thaw(chain: Chain) -> None:
    chain["redis"].send(signal.SIGCONT)


def _freeze_the_gateway(chain: Chain) -> None:
    chain["gateway"].send(signal.SIGSTOP)
    time.sleep(FROZEN_SECONDS)
    chain["gateway"].send(signal.SIGCONT)


def _put_right(chain: Chain) -> None:
    (chain.folder / "whole").touch()


def _block(chain: Chain) -> None:
    # Twice as many as there are workers, for one may take two.
    for _ in range(4):
        chain.send_and_leave("block", whole=str(chain.folder / "whole"))
    time.sleep(2)
    for _ in range(20):
        chain.send_and_leave("search", query="x")


def _block_one(chain: Chain) -> None:
    chain.send_and_leave("block_one", whole=str(chain.folder / "whole"))
    time.sleep(2)
    # A call takes two seconds: eight a second for the one that is left.
    chain.start_flood("summarise", {"text": "x"}, "--detach", "--first", "600", "--rate", "10")


def _unblock_one(chain: Chain) -> None:
    chain["flood"].end(signal.SIGKILL)
    _put_right(chain)


def _fill_the_slots(chain: Chain) -> None:
    for _ in range(SLOTS):
        chain.send_and_leave("hold", whole=str(chain.folder / "whole"))


def _hold_the_election(chain: Chain) -> None:
    chain.redis().set(faults.KEYS.monitor, "mute-1-0000", ex=900)


def _end_the_election(chain: Chain) -> None:
    chain.redis().delete(faults.KEYS.monitor)


def _end_collector(chain: Chain) -> None:
    chain["collector"].end()


def _bury(chain: Chain) -> None:
    for _ in range(3):
        chain.redis().xadd(faults.KEYS.dead_letters, {"from": "somebody else"})


def _fill_redis(chain: Chain) -> None:
    # As long as its last byte is far away: one command, all of it allocated.
    chain.redis().setrange("somebody-elses", int(0.85 * MEMORY), "x")


def _empty_redis(chain: Chain) -> None:
    chain.redis().delete("somebody-elses")


def _kill_full_workers(chain: Chain) -> None:
    for _ in range(SLOTS):
        chain.send_and_leave("summarise", text="x")
    until(lambda: _held(chain) == SLOTS, "all slots are taken", within=20, every=0.01)
    for pid in faults.worker_pids(chain):
        os.kill(pid, signal.SIGKILL)


def _crash_again_and_again(chain: Chain) -> None:
    for round_number in range(2):
        name = f"crash{round_number}"
        chain.start_workers(CRASHED, name=name)
        until(lambda n=name: len(faults.worker_pids(chain, n)) == CRASHED, "they registered", within=180)  # type: ignore[misc]
        faults.kill_every_worker(chain, name)


def _fail_one_of_a_hundred(chain: Chain) -> None:
    chain.start_flood("search", {"query": "x"}, "--rate", "10", "--impatient-every", "110")


def _stop_failing(chain: Chain) -> None:
    chain["flood"].end(signal.SIGKILL)


DRILLS: Final = (
    Drill(
        (
            Fault("somebody else writes three dead letters", ("ToolspanDeadLettersUncounted",), _bury),
            Fault("somebody else's key fills Redis to 85 %", ("ToolspanRedisNearlyFull",), _fill_redis, _empty_redis),
        ),
        load=False,
    ),
    Drill(
        (
            Fault(
                "six calls that kill whoever runs them",
                ("ToolspanPoisonLoop", "ToolspanDeadLettersGrowing"),
                _poison,
            ),
        )
    ),
    Drill(
        (
            Fault("none", ("ToolspanWatchdog",), clears=NEVER),
            Fault("a caller's reply stream became a string", ("ToolspanReplyFailures",), _break_the_replies),
            Fault("40 entries that nobody can read", ("ToolspanDeadLetterBurst",), _malformed),
            Fault("the bodies of calls deleted, and their worker killed", ("ToolspanCallsLost",), _lose),
            Fault("the backends of traces and events refuse them", ("ToolspanCollectorDropping",), _refuse, _take),
        ),
        from_the_load=(
            Fault(
                "callers that give up after 0.4 s on a tool that takes 2 s",
                ("ToolspanCallerTimeouts", "ToolspanSLOBurn1h"),
            ),
        ),
    ),
    Drill(
        (
            Fault(
                "the loop of one worker blocked, and more calls than the other can take",
                ("ToolspanWorkerStalled", "ToolspanBacklogNotShrinking"),
                _block_one,
                _unblock_one,
                within=840,
            ),
        ),
        load=False,
    ),
    Drill(
        (
            Fault(
                "every slot taken by a call that does not end",
                ("ToolspanSaturated",),
                _fill_the_slots,
                _put_right,
                within=840,
            ),
        ),
        load=False,
    ),
    Drill(
        (
            Fault("a mute process elected to measure", ("ToolspanMonitorDown",), _hold_the_election, _end_the_election),
            Fault("the collector gone", ("ToolspanTelemetryAbsent",), _end_collector, lambda c: c.start_collector()),
        )
    ),
    Drill(
        (
            Fault("both workers killed with all slots taken", ("ToolspanReclaimStorm",), _kill_full_workers),
            Fault(
                f"{2 * CRASHED} more workers killed soon after they started",
                ("ToolspanReapChurn",),
                _crash_again_and_again,
                clears=HOUR,
            ),
        ),
        load=False,
    ),
    Drill(
        (
            Fault(
                "every worker killed, with calls waiting",
                ("ToolspanNoLiveWorkers",),
                _kill_workers,
                lambda c: c.start_workers(),
            ),
            Fault("Redis frozen", ("ToolspanRedisFailing",), _freeze, _thaw),
            Fault("the loop of every worker blocked", ("ToolspanWorkersStalled",), _block, _put_right),
        )
    ),
    Drill(
        (
            Fault(
                f"the gateway frozen for {FROZEN_SECONDS} s",
                ("ToolspanGatewayStalled",),
                _freeze_the_gateway,
            ),
        ),
        load=False,
    ),
    Drill(
        (
            Fault(
                "one of 110 callers gives up after a millisecond",
                ("ToolspanSLOBurn6h",),
                _fail_one_of_a_hundred,
                _stop_failing,
                clears=HALF_AN_HOUR,
            ),
        ),
        load=False,
    ),
)
"""Those that take longest first."""


def drilled() -> dict[str, str]:
    """Every alert that is drilled, with its fault."""
    made = (fault for drill in DRILLS for fault in (*drill.faults, *drill.from_the_load))
    return {alert: fault.what for fault in made for alert in fault.alerts}
