"""`make pictures`: what the dashboards show while all is well and after faults, for tools/pictures to draw."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dashboards.source.build import BOARDS
from tests.dashboards.queries import VARIABLES
from tests.stack import faults
from tests.stack.chain import Chain

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIET_SECONDS: Final = float(os.environ.get("QUIET_SECONDS", "240"))
"""How long all is well before the first picture: rates need a few minutes."""

CALLERS: Final = 10
SLOW: Final = 0.15
STEP: Final = 5
LOSSES: Final = {"worker_lost", "lease_expired"}


def main(out: Path) -> None:
    """Run the stack, first well and then with faults, and write down what each dashboard asks for."""
    with tempfile.TemporaryDirectory() as folder, Chain(Path(folder)) as chain:
        began = time.time()
        with ThreadPoolExecutor(CALLERS) as callers:
            ended = [callers.submit(call_for_a_while, chain, number) for number in range(CALLERS)]
        if any(one.exception() for one in ended):
            raise SystemExit("a call of the healthy load failed")
        write(chain, out / "healthy", began)
        began = time.time() - 60
        faults.everything(chain)
        write(chain, out / "faulty", began)


def call_for_a_while(chain: Chain, number: int) -> None:
    """Call as patient callers do; some of the calls are slow."""
    chance = random.Random(number)
    until = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < until:
        slow = chance.random() < SLOW
        answer = (
            chain.call("summarise", text="It was a dark and stormy night")
            if slow
            else chain.call("search", query="redis")
        )
        assert answer["status"] == "ok", answer
        time.sleep(chance.uniform(0.2, 1))


def write(chain: Chain, folder: Path, began: float) -> None:
    """Write what the dashboards show from *began* to now."""
    folder.mkdir(parents=True, exist_ok=True)
    spans = [span(resource, one) for resource, one in chain.backends.every_span()]
    records = [record(resource, one) for resource, one in chain.backends.every_record()]
    trace = the_trace(spans)
    now = time.time()
    asked = {expr: answers(chain, expr, began, now) for board in BOARDS for expr in queries(board.json())}
    marked = {
        one["expr"]: marks(chain, one, began, now)
        for board in BOARDS
        for one in board.json()["annotations"]["list"]
        if "expr" in one
    }
    told = {"from": began, "to": now, "step": STEP, "trace": trace, "queries": asked, "marks": marked}
    (folder / "data.json").write_text(json.dumps({**told, "spans": spans, "records": records}))


def the_trace(spans: list[dict[str, Any]]) -> str:
    """The trace to show on the Call dashboard: one with all attempts, the first of them lost; or the longest."""
    attempts: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in spans:
        if one["name"].startswith("process "):
            attempts[one["trace"]].append(one["attributes"])
    calls = sorted((one for one in spans if one["name"].startswith("call ")), key=lambda one: one["start"] - one["end"])
    for call in calls:
        made = attempts[call["trace"]]
        lost = sum(one.get("error.type") in LOSSES for one in made)
        if lost and lost == len(made) - 1 and len(made) == max(one["toolspan.attempt"] for one in made):
            return str(call["trace"])
    return str(calls[0]["trace"])


def queries(board: dict[str, Any]) -> Iterator[str]:
    """Every query to Prometheus on a board."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == "prometheus":
                yield target["expr"]


def answers(chain: Chain, expr: str, began: float, now: float) -> dict[str, Any]:
    """What Prometheus says to a query, now and over the time."""
    text = expr
    for variable, value in {**VARIABLES, "$__range": f"{int(now - began)}s"}.items():
        text = text.replace(variable, value)
    return {
        "range": chain.ask("query_range", query=text, start=began, end=now, step=STEP)["result"],
        "instant": chain.ask("query", query=text)["result"],
    }


def marks(chain: Chain, annotation: dict[str, Any], began: float, now: float) -> list[Any]:
    """What Prometheus says to the query of an annotation, asked as Grafana does: at whole steps."""
    step = int(annotation["step"].removesuffix("s"))
    start, end = (int(at // step * step) for at in (began, now))
    text = annotation["expr"]
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    found: list[Any] = chain.ask("query_range", query=text, start=start, end=end, step=step)["result"]
    return found


def span(resource: dict[str, Any], one: Any) -> dict[str, Any]:
    """A span as JSON; times are unix seconds."""
    return {
        "trace": one.trace_id.hex(),
        "id": one.span_id.hex(),
        "parent": one.parent_span_id.hex(),
        "name": one.name,
        "start": one.start_time_unix_nano / 1e9,
        "end": one.end_time_unix_nano / 1e9,
        "failed": one.status.code == 2,
        "attributes": plain(one.attributes),
        "service": resource.get("service.name", ""),
        "instance": resource.get("service.instance.id", ""),
    }


def record(resource: dict[str, Any], one: Any) -> dict[str, Any]:
    """A log record as JSON."""
    return {
        "trace": one.trace_id.hex(),
        "at": (one.time_unix_nano or one.observed_time_unix_nano) / 1e9,
        "severity": one.severity_text,
        "event": one.event_name,
        "body": one.body.string_value,
        "attributes": plain(one.attributes),
        "service": resource.get("service.name", ""),
        "instance": resource.get("service.instance.id", ""),
    }


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
