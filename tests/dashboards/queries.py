"""Every query that we ship, by where it stands; and what a query of PromQL asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import yaml

from dashboards.source.build import BOARDS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
RULES = ROOT / "otel" / "prometheus" / "rules"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
VARIABLES = {
    "${trace}": TRACE_ID,
    "${tool:regex}": "search|summarise",
    "$__rate_interval": "1m",
    "$__range": "10m",
    "$stream": ".*",
    "$tool": ".*",
    "$instance": ".*",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One query, and where it stands."""

    place: str
    text: str

    def __str__(self) -> str:
        return self.place


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel that is no row, with the name of its board."""
    for board in BOARDS:
        for panel in board.json()["panels"]:
            if panel["type"] != "row":
                yield board.name, panel


def of_panels(kind: str = "prometheus") -> list[Query]:
    """The queries of all panels to this kind of datasource."""
    return [
        Query(f"{board}: {panel['title']} ({target['refId']})", target.get("expr") or target["query"])
        for board, panel in panels()
        for target in panel.get("targets", ())
        if target["datasource"]["type"] == kind
    ]


def of_annotations() -> list[Query]:
    """What marks changes on every board."""
    first = BOARDS[0].json()
    return [
        Query(f"annotation: {annotation['name']}", annotation["expr"])
        for annotation in first["annotations"]["list"]
        if "expr" in annotation
    ]


def of_rules() -> list[Query]:
    """The expressions of all rules."""
    return [
        Query(f"rule: {rule.get('alert') or rule['record']} {rule['labels'].get('slo', '')}".strip(), rule["expr"])
        for rule in rules()
    ]


def rules() -> list[dict[str, Any]]:
    """All rules, as Prometheus reads them."""
    files = sorted(RULES.glob("*.yml"))
    return [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def filled_in(query: str) -> str:
    """The query as Grafana would send it, with everything chosen."""
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    assert "$" not in query, query
    return query


def asked_for(query: str) -> tuple[set[str], set[str]]:
    """The metrics of a query, and the labels that it selects and groups by."""
    metrics: set[str] = set()
    labels: set[str] = set()
    text = filled_in(query)
    pending = [promql_parser.parse(text)]
    while pending:
        node: Any = pending.pop()
        if isinstance(node, promql_parser.VectorSelector):
            metrics |= {node.name} if node.name else set()
            for matcher in node.matchers.matchers:
                if matcher.name == "__name__":
                    metrics |= set(matcher.value.split("|"))
                else:
                    labels.add(matcher.name)
        for child in ("expr", "lhs", "rhs", "vector_selector", "vs"):
            value = getattr(node, child, None)
            if isinstance(value, promql_parser.Expr):
                pending.append(value)
        pending += list(getattr(node, "args", ()) or ())
    for clause in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", text):
        labels |= {label.strip() for label in clause.split(",") if label.strip()}
    return metrics, labels
