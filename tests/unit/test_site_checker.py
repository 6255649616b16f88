"""What `make check` finds wrong with the built site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.check_site import from_alerts, from_dashboards, problems_of

if TYPE_CHECKING:
    from pathlib import Path

GOOD = '<link rel="canonical" href="https://docs.example.com/"><h1 id="top">Hello</h1><a href="#top">up</a>'


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of one good page, and a page for each alert."""
    (tmp_path / "index.html").write_text(GOOD)
    for _, url in (*from_alerts(), *from_dashboards()):
        page = tmp_path / url.strip("/") / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<h1>Somewhere</h1>")
    return tmp_path


def test_a_good_site_has_no_problems(site: Path) -> None:
    assert list(problems_of(site)) == []


@pytest.mark.parametrize(
    ("tag", "problem"),
    [
        (
            '<script src="https://cdn.example.com/x.js"></script>',
            "loads https://cdn.example.com/x.js from another host",
        ),
        (
            '<link rel="stylesheet" href="//fonts.example.com/a.css">',
            "loads //fonts.example.com/a.css from another host",
        ),
        ('<img src="gone.png">', "leads to gone.png, which is not there"),
        ('<a href="gone/">x</a>', "leads to gone/, which is not there"),
        ('<a href="#gone">x</a>', "leads to #gone, an anchor that is not there"),
        ('<a href="runbooks/ToolspanWatchdog/#gone">x</a>', "an anchor that is not there"),
    ],
)
def test_what_a_reader_would_stumble_over_is_found(site: Path, tag: str, problem: str) -> None:
    (site / "index.html").write_text(GOOD + tag)

    [found] = problems_of(site)

    assert found.startswith("index.html")
    assert found.endswith(problem)


def test_a_style_sheet_that_loads_from_another_host_is_found(site: Path) -> None:
    (site / "a.css").write_text(
        '@import "https://fonts.example.com/b.css"; p { background: url(data:image/png;base64,AA) }'
    )

    assert list(problems_of(site)) == ["a.css loads https://fonts.example.com/b.css from another host"]


def test_an_alert_whose_runbook_is_not_there_is_found(site: Path) -> None:
    (site / "runbooks" / "ToolspanCallsLost" / "index.html").unlink()

    assert list(problems_of(site)) == [
        "ToolspanCallsLost leads to /runbooks/ToolspanCallsLost, which is not there",
    ]


def test_a_dashboard_whose_page_is_not_there_is_found(site: Path) -> None:
    (site / "how-to" / "ten-questions" / "index.html").unlink()

    found = list(problems_of(site))
    assert len(found) == 6
    assert found[0] == "call.json leads to /how-to/ten-questions/, which is not there"
