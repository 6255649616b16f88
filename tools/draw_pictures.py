"""Draws docs/images/*.png: the dashboards with Grafana's own components, from what tests/stack/pictures.py wrote down.

Prometheus' answers are real. Tempo and Loki are not there: their panels are answered from the spans and records that came
to where they would be. npm fetches the components, once, into the cache; Chromium takes the pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dashboards.source.build import BOARDS

Json = dict[str, Any]
HERE: Final = Path(__file__).parent / "pictures"
IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
LOSSES: Final = {"worker_lost", "lease_expired"}
WIDTH, ROW, HEAD = 1600, 38, 60
ROWS: Final = 12

PICTURES: Final = {
    "healthy": ("overview", "tool", "consumers", "call"),
    "faulty": ("overview", "tool", "consumers", "dead-letters", "platform", "call"),
}


def main(told: Path) -> None:
    """Draw every picture from what is in the folder *told*."""
    program = bundle()
    with tempfile.TemporaryDirectory() as folder:
        for state, boards in PICTURES.items():
            data = json.loads((told / state / "data.json").read_text())
            for board in (board.json() for board in BOARDS if board.name in boards):
                name = board["uid"].removeprefix("toolspan-") + ("" if state == "faulty" else "-healthy")
                draw(board, answered(board, data), program, Path(folder), IMAGES / f"{name}.png")
                print(name, flush=True)


def bundle() -> Path:
    """Give the folder with app.js and app.css; make it if this is the first time."""
    key = hashlib.sha256((HERE / "package.json").read_bytes() + (HERE / "app.jsx").read_bytes()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolspan" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "app.jsx"):
        shutil.copy(HERE / name, folder)
    if not (folder / "node_modules").exists():
        subprocess.check_call(
            ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps"],  # noqa: S607
            cwd=folder,
        )
    if not (folder / key / "app.js").exists():
        options = ("--bundle", "--minify", "--loader:.js=jsx", "--define:process.env.NODE_ENV='production'")
        subprocess.check_call(["node_modules/.bin/esbuild", "app.jsx", *options, f"--outfile={key}/app.js"], cwd=folder)
    return folder / key


def draw(board: Json, data: Json, program: Path, folder: Path, picture: Path) -> None:
    """Have Chromium draw one dashboard."""
    page = folder / "page.html"
    values = f"window.BOARD={json.dumps(board)};window.DATA={json.dumps(data)}".replace("</", "<\\/")
    page.write_text(
        "<!doctype html><meta charset=utf8><body style='margin:0'><div id=root></div>"
        f"<link rel=stylesheet href='{program}/app.css'><script>{values}</script><script src='{program}/app.js'></script>"
    )
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"]) * ROW + HEAD
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=6000")
    subprocess.check_call(
        ["chromium", *flags, f"--user-data-dir={folder}/chromium", f"--window-size={WIDTH},{height}",  # noqa: S607
         f"--screenshot={picture}", f"file://{page}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


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
        "tables": tables, "logs": logs, "heatmaps": heatmaps, "trace": list(waterfall(spans, "")),
    }  # fmt: skip


def merged(panel: Json, data: Json) -> Json:
    """The table of several queries, joined by their labels, with the names that the panel gives."""
    renamed, hidden, rows = {}, set(), {}
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
    ordered = sorted((one for one in series if one["metric"]["le"] != "+Inf"), key=lambda one: float(one["metric"]["le"]))
    times = sorted({time for one in ordered for time, _ in one["values"]})
    counts = [{time: float(value) for time, value in one["values"]} for one in ordered]
    cells = [
        [max(0, row.get(t, 0) - (counts[i - 1].get(t, 0) if i else 0)) for t in times] for i, row in enumerate(counts)
    ]
    used = [i for i, row in enumerate(cells) if any(row)] or [0]
    span = range(used[0], used[-1] + 1)
    return {"bounds": [f"{ordered[i]['metric']['le']} s" for i in span], "times": times, "cells": [cells[i] for i in span]}


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


def any_spans(spans: list[Json]) -> Json:
    """Spans as rows."""
    return table(
        ("trace", "start", "service", "name", "error", "took"),
        ([s["trace"], clock(s["start"]), s["service"], s["name"], s["attributes"].get("error.type", ""), took(s)] for s in spans),
    )  # fmt: skip


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
    "Failing calls": lambda data: any_spans(spans_where(data, lambda one: one["failed"])),
    "Lost attempts": lambda data: attempts(
        spans_where(data, lambda one: is_attempt(one) and one["attributes"].get("error.type") in LOSSES)
    ),
    "By fingerprint": by_fingerprint,
    "Their traces": lambda data: attempts(
        spans_where(
            data,
            lambda one: is_attempt(one)
            and one["attributes"].get("toolspan.outcome") in {"quarantined", "outcome_unknown", "malformed"},
        )
    ),
    "Failing attempts": lambda data: attempts(spans_where(data, lambda one: is_attempt(one) and one["failed"])),
    "Slow attempts": lambda data: attempts(
        sorted(filter(is_attempt, data["spans"]), key=lambda one: one["start"] - one["end"])[:ROWS]
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
    shown = ("gen_ai.tool.name", "toolspan.attempt", "messaging.client.id", "error.type", "dlq.reason", "dlq.error_message")
    fields = (f"{name.rpartition('.')[2]}={one['attributes'][name]}" for name in shown if name in one["attributes"])
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


if __name__ == "__main__":
    main(Path(sys.argv[1]))
