"""The tutorial and the how-to guides are walked as they stand there: files, commands, and what they show of output."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
import redis

from tests.cli.commands import Shell
from tests.support.prose import unknown_commands, unknown_panels, unknown_settings
from tests.tour.pages import ROOT, Block, Walk, blocks
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from pathlib import Path

DOCS: Final = ROOT / "docs"
PAGES: Final = [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
WALKED: Final = [path for path in PAGES if any(block.mark != "not run" for block in blocks(path.read_text()))]
MIGRATION: Final = (DOCS / "how-to" / "migrate-from-the-consumer.md").read_text()
NOT_RUN: Final = {
    "it is what you leave behind": 1,
    "it needs Docker": 1,
    "it needs systemd": 1,
    "it needs the package index": 1,
    "tests/dashboards builds them": 1,
    "tests/demo runs it": 1,
}


@pytest.mark.parametrize("page", [path.read_text() for path in WALKED], ids=[path.stem for path in WALKED])
async def test_what_a_page_shows_is_so(page: str, tmp_path: Path) -> None:
    with EmbeddedServer() as server:
        async with Walk(Shell(tmp_path, {"TOOLSPAN_REDIS_URL": server.url})) as walk:
            for block in blocks(page):
                await walk.take(block)
            not_in_order = await walk.end()

    assert not_in_order == []


async def test_what_the_original_consumer_left_is_cut_off_up_to_what_is_open(tmp_path: Path) -> None:
    [tidy] = [block for block in blocks(MIGRATION) if block.file == "tidy.py"]
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
        client.xgroup_create("sg:stream:tools", "sg:tools", "0", mkstream=True)
        entries = [client.xadd("sg:stream:tools", {"payload": "{}"}) for _ in range(5)]
        client.xreadgroup("sg:tools", "old", {"sg:stream:tools": ">"}, count=4)
        left = []
        for acknowledged in (entries[:2], entries[2:4]):
            client.xack("sg:stream:tools", "sg:tools", *acknowledged)
            async with Walk(Shell(tmp_path, {"TOOLSPAN_REDIS_URL": server.url})) as walk:
                await walk.take(tidy)
                await walk.take(Block("sh", "", "python tidy.py\n", "", ""))
            left.append([entry_id for entry_id, _ in client.xrange("sg:stream:tools")])

    assert left == [entries[2:], entries[4:]]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text()

    assert unknown_commands(text) == []
    assert unknown_settings(text) == set()
    assert unknown_panels(text) == set()


def test_what_cannot_be_run_is_marked_and_counted() -> None:
    reasons = Counter(block.said for page in PAGES for block in blocks(page.read_text()) if block.mark == "not run")

    assert reasons == NOT_RUN
    assert len(WALKED) >= 11


def test_no_fence_is_overlooked() -> None:
    for page in PAGES:
        text = page.read_text()
        assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks(text)), page.name
