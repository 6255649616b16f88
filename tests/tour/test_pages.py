"""The tutorial and the how-to guides are walked as they stand there: files, commands, and what is shown of their output."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest

from tests.cli.commands import Shell
from tests.tour.pages import ROOT, Walk, blocks
from tests.support.warm import Warm
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS: Final = ROOT / "docs"
PAGES: Final = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
WALKED: Final = [path for path in PAGES if any(block.mark != "not run" for block in blocks(path.read_text()))]
NOT_RUN: Final = {
    "it is what you leave behind": 1,
    "it needs Docker": 1,
    "it needs systemd": 1,
    "it needs the package index": 1,
    "tests/dashboards builds them": 1,
    "tests/demo runs it": 1,
}


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with Warm(tmp_path_factory.mktemp("warm")) as made:
        yield made


@pytest.mark.parametrize("page", WALKED, ids=lambda path: path.stem)
async def test_what_a_page_shows_is_so(page: Path, warm: Warm, tmp_path: Path) -> None:
    with EmbeddedServer() as server:
        walk = Walk(Shell(tmp_path, {"TOOLSPAN_REDIS_URL": server.url}), warm)
        for block in blocks(page.read_text()):
            await walk.take(block)
        not_in_order = await walk.end()

    assert not_in_order == []


def test_what_cannot_be_run_is_marked_and_counted() -> None:
    reasons = Counter(block.said for page in PAGES for block in blocks(page.read_text()) if block.mark == "not run")

    assert reasons == NOT_RUN
    assert len(WALKED) >= 11


def test_no_fence_is_overlooked() -> None:
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks(text)), page.name
