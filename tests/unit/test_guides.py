"""The pages that `toolspan explain` leads to are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.pages.markdown import anchor
from toolspan.operate.explain import Life
from toolspan.operate.guides import GUIDES, guide

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", sorted(set(GUIDES.values())))
def test_a_page_that_explain_leads_to_is_there(page: str) -> None:
    path, _, place = page.partition("#")
    text = (DOCS / f"{path.rstrip('/')}.md").read_text()

    headings = {anchor(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}
    assert not place or place in headings


def test_nobody_is_led_anywhere_who_has_not_said_where_the_pages_are() -> None:
    life = Life("dead_letter", "1-0", "")

    assert guide(None, life) is None
    assert guide("https://docs.example.com/", life) == "https://docs.example.com/how-to/replay-dead-letters/"
    assert guide("https://docs.example.com", Life("gone", "1-0", "")) is None
