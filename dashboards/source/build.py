"""Writes dashboards/*.json and otel/prometheus/rules/*.yml, or says which of them are out of date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dashboards.source import rules
from dashboards.source.boards import call, consumers, dead_letters, overview, platform, tool
from dashboards.source.dashboard import DOCS

ROOT: Final = Path(__file__).parent.parent.parent
BOARDS: Final = tuple(module.BOARD for module in (overview, tool, consumers, dead_letters, call, platform))
GRAFANA: Final = "http://localhost:3000"


def files(*, grafana: str = GRAFANA, docs: str = DOCS) -> dict[Path, str]:
    """Everything that is generated, by where it goes."""
    made = {board.name: board.json(docs=docs) for board in BOARDS}
    boards = {
        ROOT / "dashboards" / f"{name}.json": json.dumps(board, indent=1, ensure_ascii=False) + "\n"
        for name, board in made.items()
    }
    folder = ROOT / "otel" / "prometheus" / "rules"
    return {**boards, **{folder / name: text for name, text in rules.files(grafana=grafana, docs=docs).items()}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or only compare them."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.source.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    parser.add_argument("--grafana-url", default=GRAFANA, help="where alerts find the dashboards")
    parser.add_argument("--docs-url", default=DOCS, help="where alerts and dashboards find the pages of docs/")
    given = parser.parse_args(arguments)

    made = files(grafana=given.grafana_url, docs=given.docs_url)
    known = {path for folder in {path.parent for path in made} for path in folder.glob("*.*")}
    generated = {path for path in known if path.suffix in {".json", ".yml"}}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    left = sorted(generated - made.keys())
    if not given.check:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path])
        for path in left:
            path.unlink()
    if stale or left:
        names = ", ".join(str(path.relative_to(ROOT)) for path in (*stale, *left))
        sys.stdout.write(f"{'out of date, run make dashboards' if given.check else 'written'}: {names}\n")
    return 1 if given.check and (stale or left) else 0


if __name__ == "__main__":
    sys.exit(main())
