"""Panels: each draws signals, or asks Tempo or Loki, as Grafana's classic dashboards want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dashboards.source.signals import COUNT, PER_SECOND, SHARE, SLOTS, TIMES, Signal

Json = dict[str, Any]

METRICS: Final[Json] = {"type": "prometheus", "uid": "${metrics}"}
TRACES: Final[Json] = {"type": "tempo", "uid": "${traces}"}
LOGS: Final[Json] = {"type": "loki", "uid": "${logs}"}

GREEN, ORANGE, RED, GREY, BLUE = "green", "orange", "red", "#6e7079", "blue"
Steps = Sequence[tuple[float, str]]

_AT_LEAST: Final = {PER_SECOND: 0.1, "cps": 1.0, COUNT: 1.0, SHARE: 1.0, SLOTS: 1.0}
"""How far an axis goes when everything on it is 0; Grafana's own choice is 100."""

_KEEP: Final = "${__url_time_range}&${stream:queryparam}"


def link(title: str, board: str, **variables: str) -> Json:
    """A link to a board that keeps the time and the stream; *variables* are chosen there."""
    chosen = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return {"title": title, "url": f"/d/toolspan-{board}?{_KEEP}{chosen}", "targetBlank": False}


def to_tool() -> Json:
    """From a series or row of one tool to its board."""
    return link(
        "${__field.labels.gen_ai_tool_name}: its calls, errors and traces",
        "tool",
        tool="${__field.labels.gen_ai_tool_name}",
    )


def to_traces() -> Json:
    """From any series of calls to the list of traces below it."""
    return link("Failing and slow traces", "tool", tool="${tool}")


TO_CALL: Final = link("This call: its trace, attempts and logs", "call", trace="${__value.raw}")
TO_DEAD_LETTERS: Final = link("Dead letters by cause", "dead-letters")
TO_CONSUMERS: Final = link("Which worker", "consumers")
TO_PLATFORM: Final = link("Redis and the pipeline of telemetry", "platform")


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel without its place; *content* is everything else that Grafana is told."""

    width: int
    height: int
    content: Json = field(default_factory=dict)


def _panel(
    kind: str,
    title: str,
    description: str,
    *,
    size: tuple[int, int],
    source: Json | None = None,
    targets: Sequence[Json] = (),
    defaults: Json | None = None,
    overrides: Sequence[Json] = (),
    options: Json | None = None,
    transformations: Sequence[Json] = (),
) -> Panel:
    content: Json = {"type": kind, "title": title, "description": description}
    if source is not None:
        content["datasource"] = source
        content["targets"] = [{"refId": chr(ord("A") + n), "datasource": source, **t} for n, t in enumerate(targets)]
    content["fieldConfig"] = {"defaults": defaults or {}, "overrides": list(overrides)}
    content["options"] = options or {}
    if transformations:
        content["transformations"] = list(transformations)
    return Panel(*size, content)


def _target(signal: Signal, *, exemplars: bool = False, instant: bool = False, form: str = "time_series") -> Json:
    return {
        "expr": signal.query,
        "legendFormat": signal.legend or "__auto",
        "exemplar": exemplars and signal.exemplars,
        "instant": instant,
        "range": not instant,
        "format": form,
    }


def _thresholds(steps: Steps, base: str) -> Json:
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}, *({"color": color, "value": value} for value, color in steps)],
    }


def _without_figures(text: str) -> list[Json]:
    """Grey and in words, never a green zero: what is not known is not fine."""
    return [{"type": "special", "options": {"match": "null+nan", "result": {"text": text, "color": GREY, "index": 0}}}]


def stat(
    title: str,
    description: str,
    signal: Signal,
    *,
    steps: Steps = (),
    base: str = GREEN,
    width: int = 4,
    height: int = 4,
    links: Sequence[Json] = (),
    decimals: int | None = None,
) -> Panel:
    """One coloured figure with its recent course."""
    defaults = {
        "unit": signal.unit,
        "noValue": signal.no_data,
        "mappings": _without_figures(signal.no_data),
        "color": {"mode": "thresholds"},
        "thresholds": _thresholds(steps, base),
        "links": list(links),
        **({} if decimals is None else {"decimals": decimals}),
    }
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "area",
        "textMode": "value",
        "justifyMode": "center",
        "wideLayout": True,
    }
    return _panel(
        "stat", title, description, size=(width, height), source=METRICS,
        targets=[_target(signal)], defaults=defaults, options=options,
    )  # fmt: skip


def graph(
    title: str,
    description: str,
    *signals: Signal,
    width: int = 8,
    height: int = 8,
    links: Sequence[Json] = (),
    steps: Steps = (),
    stacked: bool = False,
    bars: bool = False,
) -> Panel:
    """Series over time; *steps* are drawn as lines."""
    first = signals[0]
    custom = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 60 if bars else 10,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "line" if steps else "off"},
        **_axis(first.unit, steps),
    }
    defaults = {
        "unit": first.unit,
        "noValue": first.no_data,
        "min": 0,
        "color": {"mode": "palette-classic"},
        "thresholds": _thresholds(steps, "transparent" if steps else GREEN),
        "links": list(links),
        "custom": custom,
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return _panel(
        "timeseries", title, description, size=(width, height), source=METRICS,
        targets=[_target(signal, exemplars=True) for signal in signals], defaults=defaults, options=options,
    )  # fmt: skip


def _axis(unit: str, steps: Steps) -> Json:
    # Of how many times too fast something is, one sees the steps although all is well.
    least = 1.1 * steps[-1][0] if unit == TIMES else _AT_LEAST.get(unit)
    return {} if least is None else {"axisSoftMax": least}


def heatmap(title: str, description: str, signal: Signal, *, unit: str, width: int = 12, height: int = 9) -> Panel:
    """How a histogram's buckets fill over time."""
    options = {
        "calculate": False,
        "yAxis": {"unit": unit, "axisPlacement": "left"},
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "scale": "exponential", "exponent": 0.5},
        "cellGap": 1,
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": True},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "legend": {"show": True},
        "filterValues": {"le": 1e-9},
    }
    defaults = {"unit": signal.unit, "noValue": signal.no_data}
    target = _target(signal, exemplars=True, form="heatmap")
    return _panel(
        "heatmap", title, description, size=(width, height), source=METRICS,
        targets=[target], defaults=defaults, options=options,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: a signal, by what the rows are."""

    title: str
    signal: Signal
    steps: Steps = ()
    decimals: int | None = None


def table(
    title: str,
    description: str,
    *columns: Column,
    rows: Mapping[str, str],
    width: int = 24,
    height: int = 9,
    links: Mapping[str, Json] | None = None,
) -> Panel:
    """A table of the present: *rows* are the labels that tell them apart, with their titles."""
    overrides = [_column(f"Value #{chr(ord('A') + n)}", column) for n, column in enumerate(columns)]
    for name, to in (links or {}).items():
        overrides.append(
            {"matcher": {"id": "byName", "options": rows[name]}, "properties": [{"id": "links", "value": [to]}]}
        )
    renamed = {f"Value #{chr(ord('A') + n)}": column.title for n, column in enumerate(columns)} | dict(rows)
    if len(columns) == 1:
        renamed["Value"] = columns[0].title
        overrides[0]["matcher"]["options"] = columns[0].title
    for n, column in enumerate(columns):
        overrides[n]["matcher"]["options"] = column.title
    first = columns[0].signal
    return _panel(
        "table", title, description, size=(width, height), source=METRICS,
        targets=[_target(column.signal, instant=True, form="table") for column in columns],
        defaults={"unit": first.unit, "noValue": first.no_data, "custom": {"filterable": True}},
        overrides=overrides,
        options={"showHeader": True, "cellHeight": "sm", "footer": {"show": False}},
        transformations=[
            *([{"id": "merge", "options": {}}] if len(columns) > 1 else []),
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": renamed}},
        ],
    )  # fmt: skip


def _column(name: str, column: Column) -> Json:
    properties: list[Json] = [{"id": "unit", "value": column.signal.unit}]
    if column.decimals is not None:
        properties.append({"id": "decimals", "value": column.decimals})
    if column.steps:
        properties += [
            {"id": "thresholds", "value": _thresholds(column.steps, GREEN)},
            {"id": "custom.cellOptions", "value": {"type": "color-background", "mode": "basic"}},
        ]
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def search(
    title: str,
    description: str,
    query: str,
    *,
    none: str,
    spans: bool = False,
    width: int = 24,
    height: int = 9,
    limit: int = 50,
) -> Panel:
    """A table of traces, or of spans, that Tempo finds; each leads to its call. *none*: what it says without any."""
    target = {"queryType": "traceql", "query": query, "limit": limit, "tableType": "spans" if spans else "traces"}
    if spans:
        target["spss"] = 20
    override = {
        "matcher": {"id": "byName", "options": "traceID"},
        "properties": [{"id": "links", "value": [TO_CALL]}],
    }
    return _panel(
        "table", title, description, size=(width, height), source=TRACES, targets=[target],
        defaults={"noValue": none, "unit": "short", "custom": {"filterable": True}},
        overrides=[override], options={"showHeader": True, "cellHeight": "sm"},
    )  # fmt: skip


def waterfall(title: str, description: str, query: str, *, height: int = 18) -> Panel:
    """One trace."""
    target = {"queryType": "traceql", "query": query, "limit": 20, "tableType": "traces"}
    return _panel(
        "traces", title, description, size=(24, height), source=TRACES, targets=[target],
        defaults={"noValue": "no such trace, or not yet"},
    )  # fmt: skip


def records(title: str, description: str, query: str, *, none: str, width: int = 24, height: int = 9) -> Panel:
    """Events, as Loki finds them. *none*: what it says without any."""
    options = {
        "showTime": True,
        "wrapLogMessage": True,
        "enableLogDetails": True,
        "sortOrder": "Descending",
        "dedupStrategy": "none",
    }
    return _panel(
        "logs", title, description, size=(width, height), source=LOGS,
        targets=[{"expr": query, "queryType": "range"}], defaults={"noValue": none}, options=options,
    )  # fmt: skip


def counted(
    title: str, description: str, query: str, *, rows: Mapping[str, str], width: int = 24, height: int = 9
) -> Panel:
    """A table of counts that Loki makes over the whole range."""
    renamed = {**rows, "Value": "count", "Value #A": "count"}
    return _panel(
        "table", title, description, size=(width, height), source=LOGS,
        targets=[{"expr": query, "queryType": "instant", "instant": True}],
        defaults={"unit": "short", "noValue": "none", "custom": {"filterable": True}},
        options={"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": "count", "desc": True}]},
        transformations=[
            {"id": "labelsToFields", "options": {"mode": "columns"}},
            {"id": "merge", "options": {}},
            {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": renamed}},
        ],
    )  # fmt: skip


def text(title: str, description: str, content: str, *, width: int = 24, height: int = 4) -> Panel:
    """Words in Markdown."""
    return _panel("text", title, description, size=(width, height), options={"mode": "markdown", "content": content})
