"""How long each alert took to fire and to clear when its fault was made for real."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dashboards.source.alerts import ALERTS, NOBODY, PAGE, TICKET
from tests.stack.chain import EXPORT_SECONDS, LEASE_MS
from tests.stack.drills import ONLY_PROMTOOL
from tools.pages.markdown import pages_of, table

ROOT: Final = Path(__file__).parent.parent.parent
MEASURED: Final = ROOT / "tests" / "stack" / "fire-drill.json"
WHERE: Final = ROOT / "docs" / "fire-drill.md"
UNDRILLED: Final = (
    "These are proved with promtool alone (`tests/rules/`), as every other alert is besides: each fires on what it is "
    "for, and is silent on what it is not for."
)
KINDS: Final = {PAGE: "Pages", TICKET: "Tickets", NOBODY: "Watchdog"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One alert, its fault, and after how many seconds it was heard of."""

    alert: str
    fault: str
    fires: float | None
    clears: float | None
    """After the fault was undone."""
    not_waited_for: str
    """When it clears, if nobody waited for that."""
    day: str
    cores: int
    load: float
    """Of the machine, at the end."""

    @property
    def heard_of(self) -> bool:
        """Whether it fired, and cleared if that was waited for."""
        return self.fires is not None and (self.clears is not None or bool(self.not_waited_for))


def measured() -> list[Measured]:
    """What the last drills found."""
    return [Measured(**row) for row in json.loads(MEASURED.read_text())] if MEASURED.exists() else []


def page() -> str:
    """Make the page."""
    known = {row.alert: row for row in measured()}
    parts = ["# Fire drill\n\n<!-- Written by `make drill`; run that. -->\n", introduction(list(known.values()))]
    for severity, title in KINDS.items():
        drilled = [known[alert.name] for alert in ALERTS if alert.severity == severity and alert.name in known]
        rows = [
            (linked(row.alert), row.fault, told(row.fires), row.not_waited_for or told(row.clears)) for row in drilled
        ]
        parts += [f"## {title}", table(("alert", "fault", "fires after", "clears after"), rows)]
    parts += [
        "## What cannot be drilled in minutes",
        UNDRILLED,
        table(("alert", "why"), [(linked(name), why) for name, why in ONLY_PROMTOOL.items()]),
    ]
    return pages_of(*parts)


def introduction(rows: list[Measured]) -> str:
    """Say what was measured, where and when."""
    days, loads = sorted({row.day for row in rows}), sorted(row.load for row in rows)
    return (
        "Real faults, on the shipped configuration, each part a real process on one machine: how long until whoever is "
        "on call hears of it, after everything between a counter and the pager; and, once the fault is undone, until "
        f"they hear that it is over. Metrics are exported every {EXPORT_SECONDS} s here, and a lease is "
        f"{LEASE_MS / 1000:g} s; the defaults of 15 s and 60 s add up to a minute. An alert over a window clears when "
        "its window is over.\n\n"
        f"Measured on {' to '.join(dict.fromkeys((days[0], days[-1])))} by `make drill`: several stacks side by side "
        f"on {rows[0].cores} cores, with a load of {loads[0]:g} to {loads[-1]:g}, so that the times are upper bounds. "
        "No stack was older than half an hour: on a plane with a past it takes longer until the bad calls are enough "
        "of all the calls of an hour, or of six."
    )


def linked(alert: str) -> str:
    """Name an alert, with a link to its runbook."""
    return f"[{alert}](runbooks/{alert}.md)"


def told(seconds: float | None) -> str:
    """Say how long it took."""
    return "not heard of" if seconds is None else f"{seconds:.0f} s"
