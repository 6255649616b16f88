"""The page of known failure modes says what is true: every test that it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = [
    line.split(" | ")
    for line in (TESTS.parent / "docs" / "known-failure-modes.md").read_text().splitlines()
    if line.startswith("| **")
]


def test_all_fifteen_complaints_are_answered() -> None:
    numbers = [found[1] for row in ROWS if (found := re.match(r"\| \*\*(\d+)\. ", row[0]))]

    assert numbers == [str(n) for n in range(1, 16)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| *"))
def test_every_test_that_is_named_exists(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[-1])

    assert named
    for one in named:
        path, _, name = one.partition("::")
        text = (TESTS / path).read_text()
        assert path.endswith("_test.yml") or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), one
