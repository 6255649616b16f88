"""Writes the pages of docs/ that are made from code, or says which of them are out of date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report.page import page as benchmarks
from benchmarks.report.plot import picture as benchmarks_picture
from tools.pages import cli, fire_drill, http, protocol, python, runbooks, settings, telemetry
from toolspan.settings import Settings
from toolspan.store.permissions import acl_file

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parent.parent / "docs"

PAGES: dict[str, Callable[[], str]] = {
    "benchmarks.md": benchmarks,
    "cli.md": cli.page,
    "fire-drill.md": fire_drill.page,
    "images/benchmarks.svg": benchmarks_picture,
    "http.md": http.page,
    "protocol.md": protocol.page,
    "python.md": python.page,
    "runbooks/README.md": runbooks.page,
    "settings.md": settings.page,
    "telemetry.md": telemetry.page,
    "../deploy/acl/toolspan.acl": lambda: acl_file(Settings.model_fields["prefix"].default),
}


def main() -> int:
    """Write the pages, or only compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page would change")
    check: bool = parser.parse_args().check

    stale = []
    for name, content in PAGES.items():
        path = DOCS / name
        text = content()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text)
    if stale:
        print(f"{'out of date, run make docs' if check else 'written'}: {', '.join(stale)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
