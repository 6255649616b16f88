"""`make drill`: raises each alert that a real fault can raise within minutes, and writes down how long that takes."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

from tests.stack import faults
from tests.stack.chain import EXPORT_SECONDS, LEASE_MS, ROOT, Chain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = ROOT / "docs" / "fire-drill.md"
FIRES_WITHIN = 420.0
CLEARS_WITHIN = 960.0


INTRODUCTION = f"""\
<!-- Written by `make drill`; run that. -->

# Fire drill

Real faults, on the shipped configuration, each part a real process on one machine: how long until whoever is on call
hears of it, and, once the fault is undone, until it clears. Metrics are exported every {EXPORT_SECONDS} s
here, and a lease
is {LEASE_MS / 1000:g} s; the defaults of 15 s and 60 s add up to a minute. An alert over a window clears when
its window is
over.

| alert | fault | fires after | clears after |
|---|---|---|---|
"""
REMAINS = """

What takes longer than minutes, or a fault that cannot be made on one machine, is proved with promtool alone
(`tests/rules/`).
"""


def _nothing(_: Chain) -> None:
    """What ends by itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, how it is undone, and what it should raise."""

    what: str
    alerts: tuple[str, ...]
    cause: Callable[[Chain], None] = _nothing
    undo: Callable[[Chain], None] = _nothing


class Listener:
    """Notes when the pager was told what."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._stop = Event()
        self.heard: list[tuple[float, str, str]] = []
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        known = 1
        while not self._stop.wait(0.5):
            told = self._chain["pager"].told()
            now = time.monotonic()
            self.heard += [(now, line["event"].removeprefix("alert."), line["alert"]) for line in told[known:]]
            known = max(known, len(told))

    def close(self) -> None:
        """Stop before the chain's files go."""
        self._stop.set()
        self._thread.join()

    def first(self, status: str, alert: str, *, since: float) -> float | None:
        """Seconds from *since* until it was heard; None if it was not."""
        times = [at - since for at, how, name in list(self.heard) if (how, name) == (status, alert) and at >= since]
        return min(times, default=None)


def _kill_workers(chain: Chain) -> None:
    faults.kill_every_worker(chain)
    for tool in ("search", "summarise"):
        chain.send_and_leave(tool, **({"query": "x"} if tool == "search" else {"text": "x"}))


def _freeze(chain: Chain) -> None:
    chain["redis"].send(signal.SIGSTOP)


def _thaw(chain: Chain) -> None:
    chain["redis"].send(signal.SIGCONT)


def _end_collector(chain: Chain) -> None:
    chain["collector"].end()


def _block(chain: Chain) -> None:
    # Twice as many as there are workers, for one may take two.
    for _ in range(4):
        chain.send_and_leave("block", whole=str(chain.folder / "whole"))
    time.sleep(2)
    for _ in range(20):
        chain.send_and_leave("search", query="x")


def _unblock(chain: Chain) -> None:
    (chain.folder / "whole").touch()


def _poison(chain: Chain) -> None:
    for _ in range(6):
        chain.send_and_leave("render", page="/")


def _hold_the_election(chain: Chain) -> None:
    chain.redis().set(faults.KEYS.monitor, "mute-1-0000", ex=900)


def _end_the_election(chain: Chain) -> None:
    chain.redis().delete(faults.KEYS.monitor)


def _refuse(chain: Chain) -> None:
    chain.backends.refusing = True


def _take(chain: Chain) -> None:
    chain.backends.refusing = False


def _lose(chain: Chain) -> None:
    faults.lose_a_call(chain)


def _malformed(chain: Chain) -> None:
    faults.malformed(chain, 40)


GROUPS = (
    (
        Fault("40 entries that nobody can read", ("ToolspanDeadLetterBurst",), _malformed),
        Fault("the bodies of calls deleted, and their worker killed", ("ToolspanCallsLost",), _lose),
        Fault("the backends of traces and events refuse them", ("ToolspanCollectorDropping",), _refuse, _take),
    ),
    (Fault("six calls that kill whoever runs them", ("ToolspanPoisonLoop",), _poison),),
    (
        Fault(
            "every worker killed, with calls waiting", ("ToolspanNoLiveWorkers",), _kill_workers, Chain.start_workers
        ),
        Fault("Redis frozen", ("ToolspanRedisFailing",), _freeze, _thaw),
        Fault("the loop of every worker blocked", ("ToolspanWorkersStalled",), _block, _unblock),
    ),
    (
        Fault("a mute process elected to measure", ("ToolspanMonitorDown",), _hold_the_election, _end_the_election),
        Fault("the collector gone", ("ToolspanTelemetryAbsent",), _end_collector, Chain.start_collector),
    ),
)
"""Each on a stack of its own, side by side; those of one group one after the other."""
FROM_THE_LOAD = Fault("callers that give up after 0.4 s on a tool that takes 2 s", ("ToolspanCallerTimeouts",))


def main() -> int:
    """Run all drills and write the table; fails if an alert did not fire."""
    with ThreadPoolExecutor(len(GROUPS)) as pool:
        rows = [row for done in pool.map(_drill, GROUPS) for row in done]
    PAGE.write_text(_page(rows))
    sys.stdout.write(PAGE.read_text())
    return 0 if all(fired is not None for _, _, fired, _ in rows) else 1


def _drill(group: tuple[Fault, ...]) -> list[tuple[str, str, float | None, float | None]]:
    """Make the faults of one group; gives the alert, the fault, when it fired and when it cleared."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder, Chain(Path(folder)) as chain:
        listener = Listener(chain)
        loaded = time.monotonic()
        chain.start_traffic(rate=10)
        undone = []
        for fault in group:
            at = _begin(chain, fault)
            _wait(lambda f=fault, a=at: _all(listener, "firing", f, a), FIRES_WITHIN)  # type: ignore[misc]
            fault.undo(chain)
            undone.append((fault, at, time.monotonic()))
            if fault is not group[-1] and fault.undo is not _nothing:
                _wait(lambda f=fault, u=undone[-1][2]: _all(listener, "resolved", f, u), 240)  # type: ignore[misc]
        if group is GROUPS[0]:
            chain["traffic"].end()
            undone.append((FROM_THE_LOAD, loaded, time.monotonic()))
        # What was not heard of has nothing to clear.
        heard = [(fault, end) for fault, at, end in undone if _all(listener, "firing", fault, at)]
        _wait(lambda: all(_all(listener, "resolved", fault, end) for fault, end in heard), CLEARS_WITHIN)
        listener.close()
        return [
            (alert, fault.what, listener.first("firing", alert, since=at), listener.first("resolved", alert, since=end))
            for fault, at, end in undone
            for alert in fault.alerts
        ]


def _begin(chain: Chain, fault: Fault) -> float:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {fault.what}\n")
    sys.stdout.flush()
    at = time.monotonic()
    fault.cause(chain)
    return at


def _all(listener: Listener, status: str, fault: Fault, since: float) -> bool:
    return all(listener.first(status, alert, since=since) is not None for alert in fault.alerts)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.5)


def _page(rows: Sequence[tuple[str, str, float | None, float | None]]) -> str:
    def told(seconds: float | None) -> str:
        return "not seen" if seconds is None else f"{seconds:.0f} s"

    lines = [
        f"| [{a}](runbooks/{a}.md) | {what} | {told(fired)} | {told(cleared)} |" for a, what, fired, cleared in rows
    ]
    return INTRODUCTION + "\n".join(lines) + REMAINS


if __name__ == "__main__":
    os.environ["TEST_STACK"]
    sys.exit(main())
