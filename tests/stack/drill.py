"""`make drill`: raises each alert that a real fault can raise within minutes, and writes down how long that takes.

ARGS='--only ToolspanSaturated' makes the drill anew in which that one is raised, and keeps what was measured of others.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Final

from tests.stack.chain import Chain
from tests.stack.drills import DRILLS, Drill, Fault, drilled
from tools.pages import fire_drill
from tools.pages.fire_drill import MEASURED, Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

AT_ONCE: Final = 4
CLEARS_WITHIN: Final = 960.0
BEFORE_THE_NEXT: Final = 300.0
_writing = Lock()


class Listener:
    """Notes when the pager was told what."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._stop = Event()
        self.heard: list[tuple[float, str, str]] = []
        self._thread = Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        # Its first line is not of an alert.
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
        return round(min(times), 1) if times else None

    def all(self, status: str, fault: Fault, since: float) -> bool:
        """Whether everything that *fault* should raise was heard of."""
        return all(self.first(status, alert, since=since) is not None for alert in fault.alerts)


def main() -> int:
    """Run the drills and write the page; fails if an alert did not fire, or did not clear."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    known = sorted(drilled())
    parser.add_argument(
        "--only", metavar="ALERT", nargs="+", choices=known, default=known, help="drills of these alone"
    )
    only = set(parser.parse_args().only)
    chosen = [drill for drill in DRILLS if only & alerts_of(drill)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        measured = [row for rows in pool.map(run, chosen) for row in rows]
    fire_drill.WHERE.write_text(fire_drill.page())
    sys.stdout.write(fire_drill.page())
    return 0 if all(row.heard_of for row in measured) else 1


def alerts_of(drill: Drill) -> set[str]:
    """Give what a drill raises."""
    return {alert for fault in (*drill.faults, *drill.from_the_load) for alert in fault.alerts}


def run(drill: Drill) -> list[Measured]:
    """Make the faults of one drill, and write down when each alert fired and when it cleared."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="drill-") as folder, Chain(Path(folder)) as chain:
        listener = Listener(chain)
        loaded = time.monotonic()
        if drill.load:
            chain.start_traffic(rate=10)
        made: list[Made] = []
        for fault in drill.faults:
            at = begin(chain, fault) if fault.cause else begun
            wait(partial(listener.all, "firing", fault, at), fault.within)
            if fault.undo:
                fault.undo(chain)
            undone = time.monotonic()
            made.append(Made(fault, at, undone))
            if fault.undo and fault is not drill.faults[-1]:
                wait(partial(listener.all, "resolved", fault, undone), BEFORE_THE_NEXT)
        if drill.from_the_load:
            chain["traffic"].end()
            made += [Made(fault, loaded, time.monotonic()) for fault in drill.from_the_load]
        # What was not heard of has nothing to clear.
        heard = [one for one in made if not one.fault.clears and listener.all("firing", one.fault, one.at)]
        wait(lambda: all(listener.all("resolved", one.fault, one.undone) for one in heard), CLEARS_WITHIN)
        listener.close()
        rows = [row for one in made for row in measured(listener, one)]
    keep(rows)
    return rows


@dataclass(frozen=True, slots=True)
class Made:
    """A fault, when it was made, and when it was put right; on our clock."""

    fault: Fault
    at: float
    undone: float


def begin(chain: Chain, fault: Fault) -> float:
    """Make the fault; gives when."""
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {fault.what}\n")
    sys.stdout.flush()
    at = time.monotonic()
    if fault.cause:
        fault.cause(chain)
    return at


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until it holds, or so long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.5)


def measured(listener: Listener, one: Made) -> Iterable[Measured]:
    """How long each alert of a fault took."""
    for alert in one.fault.alerts:
        yield Measured(
            alert,
            one.fault.what,
            listener.first("firing", alert, since=one.at),
            None if one.fault.clears else listener.first("resolved", alert, since=one.undone),
            one.fault.clears,
            f"{datetime.now(UTC):%Y-%m-%d}",
            os.cpu_count() or 1,
            round(os.getloadavg()[1], 1),
        )


def keep(rows: Iterable[Measured]) -> None:
    """Put what was measured in the place of what was before."""
    with _writing:
        known = {row.alert: row for row in (*fire_drill.measured(), *rows)}
        lines = ",\n".join(json.dumps(asdict(known[alert])) for alert in sorted(known.keys() & drilled().keys()))
        MEASURED.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    os.environ["TEST_STACK"]
    sys.exit(main())
