"""What each panel of a dashboard shows: Prometheus' answers as they are, those of Tempo and Loki worked out from OTLP.

Tempo and Loki are not there: their panels are answered from the spans and records that came to where they would be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final

Json = dict[str, Any]
LOSSES: Final = {"worker_lost", "lease_expired"}
ROWS: Final = 12
SLOW: Final = 5.0
"""As the query of *Slow attempts* has it."""


def answered(board: Json, data: Json) -> Json:
    """What each panel shows."""
    tables, logs, heatmaps = {}, {}, {}
    for panel in board["panels"]:
        source = {target["datasource"]["type"] for target in panel.get("targets", ())}
        if panel["type"] == "logs":
            logs[panel["id"]] = lines_of(panel["title"], data)
        elif panel["type"] == "heatmap":
            heatmaps[panel["id"]] = heatmap(data["queries"][panel["targets"][0]["expr"]]["range"])
        elif panel["type"] == "table":
            tables[panel["id"]] = merged(panel, data) if source == {"prometheus"} else ELSEWHERE[panel["title"]](data)
    spans = [one for one in data["spans"] if one["trace"] == data["trace"]]
    return {
        "from": data["from"], "to": data["to"], "step": data["step"], "queries": data["queries"],
        "marks": list(marks(board, data)), "tables": tables, "logs": logs, "heatmaps": heatmaps,
        "trace": list(waterfall(spans, "")),
    }  # fmt: skip


def marks(board: Json, data: Json) -> Iterable[Json]:
    """What changed: for each series of an annotation, the times at which it was there without a break."""
    for one in board["annotations"]["list"]:
        step = float(one.get("step", "0s").removesuffix("s"))
        for series in data["marks"].get(one.get("expr"), ()):
            times = [at for at, value in series["values"] if float(value)]
            begins = [
                at for before, at in zip([None, *times], times, strict=False) if before is None or at - before > step
            ]
            for begin, following in zip(begins, [*begins[1:], float("inf")], strict=True):
                end = max(at for at in times if at < following)
                yield {"name": one["name"], "color": one["iconColor"], "from": begin, "to": end}


def merged(panel: Json, data: Json) -> Json:
    """The table of several queries, joined by their labels, with the names that the panel gives."""
    renamed: dict[str, str] = {}
    hidden: set[str] = set()
    rows: dict[int, Json] = {}
    for step in panel.get("transformations", ()):
        renamed |= step["options"].get("renameByName", {})
        hidden |= step["options"].get("excludeByName", {}).keys()
    several = len(panel["targets"]) > 1
    values = [f"Value #{target['refId']}" if several else "Value" for target in panel["targets"]]
    for target, value in zip(panel["targets"], values, strict=True):
        for series in data["queries"][target["expr"]]["instant"]:
            labels = {name: text for name, text in series["metric"].items() if name != "__name__"}
            known = next((row for row in rows.values() if labels.items() <= row.items()), None)
            row = rows.setdefault(id(labels), labels) if known is None else known
            row[value] = float(series["value"][1])
    names = [name for name in dict.fromkeys(n for row in rows.values() for n in row) if name not in hidden]
    # Figures come last, in the order of their queries.
    names.sort(key=lambda name: (name in values, values.index(name) if name in values else 0))
    return {
        "columns": [renamed.get(name, name) for name in names],
        "rows": [[row.get(name, "") for name in names] for row in list(rows.values())[:ROWS]],
    }


def heatmap(series: list[Json]) -> Json:
    """How many in each bucket, of cumulative ones."""
    finite = (one for one in series if one["metric"]["le"] != "+Inf")
    ordered = sorted(finite, key=lambda one: float(one["metric"]["le"]))
    times = sorted({time for one in ordered for time, _ in one["values"]})
    counts = [{time: float(value) for time, value in one["values"]} for one in ordered]
    cells = [
        [max(0, row.get(t, 0) - (counts[i - 1].get(t, 0) if i else 0)) for t in times] for i, row in enumerate(counts)
    ]
    used = [i for i, row in enumerate(cells) if any(row)] or [0]
    span = range(used[0], used[-1] + 1)
    bounds = [f"{ordered[i]['metric']['le']} s" for i in span]
    return {"bounds": bounds, "times": times, "cells": [cells[i] for i in span]}


def spans_where(data: Json, wanted: Callable[[Json], bool]) -> list[Json]:
    """The newest spans of a kind."""
    return sorted(filter(wanted, data["spans"]), key=lambda one: -one["start"])[:ROWS]


def table(head: Iterable[str], rows: Iterable[list[Any]]) -> Json:
    """A table as the page takes it."""
    return {"columns": list(head), "rows": list(rows)}


def attempts(spans: list[Json]) -> Json:
    """Attempts as rows."""
    head = ("trace", "start", "worker", "tool", "attempt", "how it came", "how it ended", "took")
    return table(
        head,
        (
            [one["trace"], clock(one["start"]), one["instance"], one["attributes"].get("gen_ai.tool.name", ""),
             str(one["attributes"].get("toolspan.attempt", "")), one["attributes"].get("toolspan.delivery", ""),
             one["attributes"].get("error.type") or one["attributes"].get("toolspan.outcome", ""), took(one)]
            for one in spans
        ),
    )  # fmt: skip


def traces_where(data: Json, wanted: Callable[[Json], bool]) -> Json:
    """The newest traces that have a span of a kind, as rows: each is called after its first span."""
    found = {one["trace"] for one in data["spans"] if wanted(one)}
    first: dict[str, Json] = {}
    for one in sorted(data["spans"], key=lambda one: one["start"]):
        if one["trace"] in found:
            first.setdefault(one["trace"], one)
    newest = list(first.values())[: -ROWS - 1 : -1]
    return table(
        ("trace", "start", "service", "name", "took"),
        ([one["trace"], clock(one["start"]), one["service"], one["name"], took(one)] for one in newest),
    )


def is_attempt(one: Json) -> bool:
    """Whether a span is that of an attempt."""
    return bool(one["name"].startswith("process"))


def by_fingerprint(data: Json) -> Json:
    """Dead letters by their cause."""
    found: dict[tuple[str, ...], float] = {}
    for one in data["records"]:
        if one["event"] == "toolspan.dead_letter":
            has = one["attributes"]
            names = ("dlq.fingerprint", "gen_ai.tool.name", "dlq.reason", "dlq.error_type")
            cause = tuple(str(has.get(name, "")) for name in names)
            found[cause] = found.get(cause, 0) + 1
    rows = ([*cause, count] for cause, count in sorted(found.items(), key=lambda one: -one[1]))
    return table(("fingerprint", "tool", "reason", "error", "dead letters"), rows)


ELSEWHERE: Final[dict[str, Callable[[Json], Json]]] = {
    "Failing calls": lambda data: traces_where(data, lambda one: one["failed"]),
    "Lost attempts": lambda data: attempts(
        spans_where(data, lambda one: is_attempt(one) and one["attributes"].get("error.type") in LOSSES)
    ),
    "By fingerprint": by_fingerprint,
    "Their traces": lambda data: attempts(
        spans_where(
            data,
            lambda one: (
                is_attempt(one)
                and one["attributes"].get("toolspan.outcome") in {"quarantined", "outcome_unknown", "malformed"}
            ),
        )
    ),
    "Failing attempts": lambda data: attempts(spans_where(data, lambda one: is_attempt(one) and one["failed"])),
    "Slow attempts": lambda data: attempts(
        spans_where(data, lambda one: is_attempt(one) and one["end"] - one["start"] > SLOW)
    ),
    "Who tried, and how did it end?": lambda data: attempts(
        spans_where(data, lambda one: is_attempt(one) and one["trace"] == data["trace"])[::-1]
    ),
}
"""What Tempo and Loki would find, by the title of the panel."""


def lines_of(title: str, data: Json) -> list[list[str]]:
    """What Loki would show."""
    wanted: dict[str, Callable[[Json], bool]] = {
        "What was said?": lambda one: one["trace"] == data["trace"],
        "What workers say": lambda one: one["service"] == "toolspan-worker",
        "The newest": lambda one: one["event"] == "toolspan.dead_letter",
    }
    found = sorted(filter(wanted[title], data["records"]), key=lambda one: -one["at"])[:ROWS]
    return [[clock(one["at"]), one["severity"], said(one)] for one in found]


def said(one: Json) -> str:
    """A record as a line."""
    shown = {
        "gen_ai.tool.name": "tool",
        "toolspan.attempt": "attempt",
        "messaging.client.id": "worker",
        "error.type": "error",
        "dlq.reason": "reason",
        "exception.message": "message",
        "dlq.error_message": "message",
    }
    fields = (f"{name}={one['attributes'][known]}" for known, name in shown.items() if known in one["attributes"])
    return f"{one['event'] or one['body']}  {'  '.join(fields)}"


def waterfall(spans: list[Json], parent: str, depth: int = 0) -> Iterable[Json]:
    """Spans below each other."""
    ids = {one["id"] for one in spans}
    for one in sorted(spans, key=lambda one: one["start"]):
        if (one["parent"] if one["parent"] in ids else "") == parent:
            colour = "green" if one["name"].startswith("execute") else "blue"
            error = one["attributes"].get("error.type", "")
            where = " ".join(filter(None, (one["instance"] if "worker" in one["service"] else "", error)))
            yield {"name": one["name"], "where": where, "depth": depth, "start": one["start"], "end": one["end"],
                   "failed": bool(error), "took": took(one), "colour": colour}  # fmt: skip
            yield from waterfall(spans, one["id"], depth + 1)


def clock(seconds: float) -> str:
    """The time of day."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")


def took(one: Json) -> str:
    """How long a span took."""
    seconds = one["end"] - one["start"]
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
