"""Draws one trace in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from toolspan.model import LOSSES
from toolspan.telemetry import attributes as at

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from toolspan.demo.sink import Span

LEGEND = "█ ran   ░ lost with its worker, until the call was taken over   ▏too short to see"

_NARROWEST_BAR = 10
_COLUMNS = 5
_EDGES = 2
_WIDE = 100
"""From how many characters on there is room between the columns."""
_WHOLE_MS = 100


def waterfall(spans: Sequence[Span], *, width: int) -> Table:
    """Draw *spans*, all of one trace, each below its parent and to its time, at most *width* characters wide."""
    began = min(span.start_ns for span in spans)
    length = max(1, max(span.end_ns for span in spans) - began)
    rows = [(span, branch + _title(span), _where(span), _duration(span), _remark(span)) for span, branch in tree(spans)]
    texts = sum(max(map(len, column)) for column in zip(*(row[1:] for row in rows), strict=True))
    gap = 1 if width >= _WIDE else 0
    bar = max(_NARROWEST_BAR, width - texts - _EDGES - (_COLUMNS - 1) * (1 + gap))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, gap, 0, 0))
    for title in ("span", "where", f"0 … {length / 1e9:.1f} s", "ms", ""):
        table.add_column(title, no_wrap=True, justify="right" if title == "ms" else "left")
    for span, title, where, duration, remark in rows:
        style = _style(span)
        drawn = Text(_bar(span, began, length, bar), style)
        table.add_row(Text(title, style), Text(where, "dim"), drawn, duration, Text(remark, style))
    return table


def complete(spans: Sequence[Span]) -> bool:
    """Whether no span of the trace is still to come, as far as the others know: one root, no parent missing."""
    ids = {span.span_id for span in spans}
    roots = [span for span in spans if span.parent_id not in ids]
    return len(roots) == 1 and not roots[0].parent_id


def lost_on(spans: Sequence[Span]) -> set[str]:
    """Name the workers whose attempts the trace shows as lost."""
    return {span.instance for span in spans if span.attributes.get(at.ERROR_TYPE) in LOSSES}


def tree(spans: Sequence[Span], parent: bytes | None = None, indent: str = "") -> Iterator[tuple[Span, str]]:
    """Walk the spans from the root, each with the branch that leads to it."""
    ids = {span.span_id for span in spans}
    below = [span for span in spans if (span.parent_id if span.parent_id in ids else None) == parent]
    below.sort(key=lambda span: span.start_ns)
    for span in below:
        last = span is below[-1]
        top = parent is None
        yield span, "" if top else indent + ("└ " if last else "├ ")
        yield from tree(spans, span.span_id, "" if top else indent + ("  " if last else "│ "))


def _title(span: Span) -> str:
    return f"{span.name} #{span.attributes.get(at.ATTEMPT)}" if span.name.startswith("process") else span.name


def _where(span: Span) -> str:
    return span.instance if span.service == "toolspan-worker" else span.service.removeprefix("toolspan-")


def _duration(span: Span) -> str:
    milliseconds = (span.end_ns - span.start_ns) / 1e6
    return f"{milliseconds:,.0f}" if milliseconds >= _WHOLE_MS else f"{milliseconds:.1f}"


def _remark(span: Span) -> str:
    error = span.attributes.get(at.ERROR_TYPE)
    return f"✗ {error}" if error else ""


def _style(span: Span) -> str:
    return "red" if span.failed else "green" if span.name.startswith("execute_tool") else "cyan"


def _bar(span: Span, began: int, length: int, room: int) -> str:
    first = min(room - 1, (span.start_ns - began) * room // length)
    width = (span.end_ns - span.start_ns) * room // length
    mark = "░" if span.attributes.get(at.ERROR_TYPE) in LOSSES else "█"
    # What is too short to be seen is a thin mark, not a block that would overstate it.
    return " " * first + (mark * min(width, room - first) if width else "▏")
