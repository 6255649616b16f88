"""One trace in a terminal: nothing of it is cut off where a terminal is as narrow as terminals are."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from toolspan.demo.sink import Span
from toolspan.demo.waterfall import LEGEND, waterfall

LOST = {"toolspan.attempt": 1, "error.type": "worker_lost"}
FIRST, SECOND = "w-4191234-5f15", "w-4191235-4ce2"


def _span(number: int, parent: int, name: str, times: tuple[int, int], instance: str = "", **more: Any) -> Span:
    service = "toolspan-worker" if instance else "toolspan-gateway"
    began, ended = (ms * 1_000_000 for ms in times)
    about = more.get("attributes", {})
    ids = bytes([number]), bytes([parent]) if parent else b""
    return Span(*ids, name, began, ended, "error.type" in about, about, service, instance)


SPANS = [
    _span(1, 0, "call summarise", (0, 14_411)),
    _span(2, 1, "send sg:stream:tools", (0, 96)),
    _span(3, 2, "process sg:stream:tools", (20, 12_735), FIRST, attributes=LOST),
    _span(4, 3, "execute_tool summarise", (21, 12_735), FIRST, attributes=LOST),
    _span(5, 2, "process sg:stream:tools", (12_735, 14_408), SECOND, attributes={"toolspan.attempt": 2}),
    _span(6, 5, "execute_tool summarise", (12_737, 14_400), SECOND),
    _span(7, 5, "send sg:reply", (14_400, 14_408), SECOND),
]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_whole_tree_is_shown(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(waterfall(SPANS, width=width))
    lines = [line for line in console.file.getvalue().splitlines() if line.strip()]  # type: ignore[attr-defined]
    rows = [line.strip() for line in lines[2:]]

    assert not [line for line in lines if "\N{HORIZONTAL ELLIPSIS}" in line.replace("0 \N{HORIZONTAL ELLIPSIS}", "")]
    assert max(map(len, lines)) <= width
    for row, (start, where, end) in zip(
        rows,
        [
            ("call summarise", "gateway", "14,411"),
            ("└ send sg:stream:tools", "gateway", "96.0"),
            ("├ process sg:stream:tools #1", FIRST, "12,715 ✗ worker_lost"),
            ("│ └ execute_tool summarise", FIRST, "12,714 ✗ worker_lost"),
            ("└ process sg:stream:tools #2", SECOND, "1,673"),
            ("├ execute_tool summarise", SECOND, "1,663"),
            ("└ send sg:reply", SECOND, "8.0"),
        ],
        strict=True,
    ):
        assert row.startswith(start), row
        assert where in row, row
        assert " ".join(row.split()).endswith(end), row


def test_the_marks_are_explained() -> None:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    console.print(waterfall(SPANS, width=120))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]

    assert [mark for mark in "█░▏" if mark not in drawn or mark not in LEGEND] == []
