"""What slo.yaml promises, as data; and the burn rates that follow from it as rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from dashboards.source.promql import STREAM, TOOL, Scope, one_of, rate, ratio
from toolspan.telemetry import attributes as at
from toolspan.telemetry import catalog

SOURCE: Final = Path(__file__).parent / "slo.yaml"
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

BAD: Final = ("no_reply", "deadline_exceeded", "quarantined", "outcome_unknown", "worker_error")
"""Calls that were lost to us, not to their tool."""
UNANSWERED: Final = ("no_reply", "refused")
"""Calls whose duration is not that of a reply."""

BY: Final = (STREAM, TOOL)


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair of windows: the budget must burn *times* too fast in both of them."""

    name: str
    times: float
    long: str
    short: str
    severity: str


BURNS: Final = (
    Burn("ToolspanSLOBurn1h", 14.4, "1h", "5m", "critical"),
    Burn("ToolspanSLOBurn6h", 6, "6h", "30m", "critical"),
    Burn("ToolspanSLOBurn1d", 3, "1d", "2h", "warning"),
    Burn("ToolspanSLOBurn3d", 1, "3d", "6h", "warning"),
)


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise, for some tools: *tools* is what follows the label's name in a selector."""

    slo: str
    target: float
    tools: str
    within: float | None = None

    @property
    def budget(self) -> float:
        """Which share of calls may be bad."""
        return round(1 - self.target / 100, 9)

    def errors(self, window: str) -> str:
        """The share of calls that are bad."""
        metric, scope, chosen = catalog.CALL_DURATION, Scope(window), {at.TOOL_NAME: self.tools} if self.tools else {}
        by = (at.STREAM, at.TOOL_NAME)
        if self.within is None:
            bad = rate(metric, scope, *by, where={**chosen, at.OUTCOME: one_of(*BAD)}, part="_count")
            calls = rate(metric, scope, *by, where=chosen, part="_count")
            # A tool whose bad calls have no series yet has had none.
            return ratio(f"({bad} or 0 * {calls})", calls)
        answered = {**chosen, at.OUTCOME: f'!~"{"|".join(UNANSWERED)}"'}
        # Prometheus writes the boundary as a whole number or as a float, by how it came in.
        boundary = f'=~"{self.within:g}|{self.within:.1f}"'
        quick = rate(metric, scope, *by, where={**answered, "le": boundary}, part="_bucket")
        calls = rate(metric, scope, *by, where=answered, part="_count")
        return ratio(f"({calls} - {quick})", calls)


def objectives(source: Mapping[str, Any] | None = None) -> list[Objective]:
    """All of them, those of single tools first.

    Raises:
        ValueError: if a target or a boundary cannot be.
    """
    wanted = yaml.safe_load(SOURCE.read_text()) if source is None else source
    special: dict[str, dict[str, Any]] = wanted.get("tools") or {}
    made = []
    for slo in ("answered", "fast"):
        own = {tool: {**wanted[slo], **says[slo]} for tool, says in special.items() if slo in says}
        made += [_objective(slo, says, f'="{tool}"') for tool, says in own.items()]
        others = f'!~"{"|".join(own)}"' if own else ""
        made.append(_objective(slo, wanted[slo], others))
    return made


def _objective(slo: str, says: Mapping[str, Any], tools: str) -> Objective:
    target, within = says["target"], says.get("within")
    if not 0 < target < 100:  # noqa: PLR2004 - percent
        message = f"{slo}: a target of {target} % leaves no budget, or is none"
        raise ValueError(message)
    if within is not None and within not in catalog.MESSAGING_SECONDS:
        message = f"{slo}: {within} s is no boundary of {catalog.CALL_DURATION.name}: {catalog.MESSAGING_SECONDS}"
        raise ValueError(message)
    return Objective(slo, target, tools, within)


def burn(slo: str, window: str, selector: str = "") -> str:
    """Name the series of how fast the budget of *slo* burns; 1 is as fast as it lasts."""
    return f'toolspan:slo_burn:{window}{{slo="{slo}"{selector}}}'


def recording_rules() -> list[dict[str, Any]]:
    """For each window and objective, how many times too fast its budget burns."""
    return [
        {
            "record": f"toolspan:slo_burn:{window}",
            "expr": f"({objective.errors(window)}) / {objective.budget:g}",
            "labels": {"slo": objective.slo},
        }
        for window in WINDOWS
        for objective in objectives()
    ]
