"""Checks the built site as a browser meets it: nothing from another host, every link and anchor leads somewhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import yaml

ROOT: Final = Path(__file__).parent.parent
RULES: Final = ROOT / "otel" / "prometheus" / "rules" / "alerts.yml"
LOADED: Final = {("script", "src"), ("img", "src"), ("source", "srcset"), ("iframe", "src"), ("link", "href")}
"""What a browser fetches by itself."""

LOADED_BY_CSS: Final = re.compile(r"""(?:url\(|@import)\s*['"]?((?:https?:)?//[^'")]+)""")

FOUND_BY_NOBODY: Final = {"canonical", "next", "prev", "alternate"}
"""Kinds of `link` that only name something."""


class Page(HTMLParser):
    """What a page loads, where it leads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what a tag says."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if given.get("rel") not in FOUND_BY_NOBODY:
            self.loads += [value for name, value in given.items() if (tag, name) in LOADED]


def main(folder: Path) -> int:
    """Say what is wrong with the site in *folder*; 1 if anything is."""
    problems = list(problems_of(folder))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def problems_of(folder: Path) -> Iterator[str]:
    """Everything that is wrong."""
    pages = {path: Page(path.read_text()) for path in sorted(folder.rglob("*.html"))}
    if not pages:
        yield f"{folder} has no pages: run make site"
    for path, page in pages.items():
        name = path.relative_to(folder)
        yield from (f"{name} loads {url} from another host" for url in page.loads if is_elsewhere(url))
        # Whoever is shown this page may be anywhere: its links are absolute.
        if name.name != "404.html":
            own = [url for url in (*page.links, *page.loads) if not is_elsewhere(url)]
            yield from (f"{name} leads to {url}, {why}" for url in own if (why := astray(path, url, pages)))
    for path in sorted(folder.rglob("*.css")):
        found = LOADED_BY_CSS.findall(path.read_text())
        yield from (f"{path.relative_to(folder)} loads {url} from another host" for url in found)
    for who, url in (*from_alerts(), *from_dashboards()):
        if not (folder / url.strip("/") / "index.html").is_file():
            yield f"{who} leads to {url}, which is not there"


def is_elsewhere(url: str) -> bool:
    """Whether it is on another host, or no page at all."""
    return urlsplit(url).scheme not in {"", "file"} or bool(urlsplit(url).netloc)


def astray(page: Path, url: str, pages: dict[Path, Page]) -> str:
    """Why a link leads nowhere; nothing if it does not."""
    parts = urlsplit(url)
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
    if target.is_dir():
        target /= "index.html"
    if not target.is_file():
        return "which is not there"
    if not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors:
        return ""
    return "an anchor that is not there"


def from_alerts() -> Iterator[tuple[str, str]]:
    """Where each alert says its runbook is, below the address of the site."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], urlsplit(rule["annotations"]["runbook_url"]).path


def from_dashboards() -> Iterator[tuple[str, str]]:
    """The same for each page that a dashboard leads to."""
    for path in sorted((ROOT / "dashboards").glob("*.json")):
        links = json.loads(path.read_text())["links"]
        yield from ((path.name, urlsplit(link["url"]).path) for link in links if link["type"] == "link")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
