"""Draws docs/images/*.png: the dashboards with Grafana's own components, from what tests/stack/pictures.py wrote down.

npm fetches the components, once, into the cache; Chromium takes the pictures.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from dashboards.source.build import BOARDS
from tools.pictures.answers import answered

Json = dict[str, Any]
Picture = tuple[str, str, tuple[str, ...]]
"""Which dashboard, in which state, and which of its rows; all of them if none."""

HERE: Final = Path(__file__).parent / "pictures"
IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
CHROMIUM: Final = shutil.which("chromium") or "chromium"
WIDTH, ROW, HEAD = 1600, 38, 60
"""As in app.jsx."""

WHOLE: Final[dict[str, Picture]] = {
    "overview": ("overview", "faulty", ()),
    "tool": ("tool", "faulty", ()),
    "consumers": ("consumers", "faulty", ()),
    "dead-letters": ("dead-letters", "faulty", ()),
    "call": ("call", "faulty", ()),
    "platform": ("platform", "faulty", ()),
    "overview-healthy": ("overview", "healthy", ()),
    "tool-healthy": ("tool", "healthy", ()),
    "consumers-healthy": ("consumers", "healthy", ()),
    "dead-letters-healthy": ("dead-letters", "healthy", ()),
    "platform-healthy": ("platform", "healthy", ()),
    "call-healthy": ("call", "healthy", ()),
}
"""Whole dashboards: which, and in which state."""

PARTS: Final[dict[str, Picture]] = {
    "walk-hurt": ("overview", "faulty", ("Is it healthy?", "Do we keep our promises?")),
    "walk-healthy": ("overview", "healthy", ("Is it healthy?", "Do we keep our promises?")),
    "walk-keeping-up": ("overview", "faulty", ("Are we keeping up?",)),
    "walk-which-tool": ("overview", "faulty", ("Rate, errors, duration",)),
    "walk-tool": ("tool", "faulty", ("Is it healthy?", "Errors")),
    "walk-call": ("call", "faulty", ("The whole of it", "Its attempts", "Its logs")),
    "walk-stuck": ("consumers", "faulty", ("Which one is stuck?",)),
    "walk-lost": ("overview", "faulty", ("Was anything lost, run twice or answered late?",)),
    "walk-dead-letters": ("dead-letters", "faulty", ("How bad is it?", "The same failure, or different ones?")),
    "walk-replay": ("dead-letters", "faulty", ("Is replay safe, and did it work?",)),
    "walk-platform": ("platform", "faulty", ("Can the other dashboards be believed?", "Redis")),
    "walk-roll": ("consumers", "healthy", ("Who is there?",)),
}
"""Rows of dashboards, for docs/how-to/ten-questions.md."""


def main(told: Path) -> None:
    """Draw every picture from what is in the folder *told*."""
    program = bundle()
    boards = {board.name: board.json() for board in BOARDS}
    known = {path.name: json.loads((path / "data.json").read_text()) for path in told.iterdir()}
    with tempfile.TemporaryDirectory() as folder:
        for name, (board, state, rows) in {**WHOLE, **PARTS}.items():
            shown = part(boards[board], rows) if rows else boards[board]
            if state not in known:
                continue
            data = answered(shown, known[state])
            if board == "call":
                shown = fitted(shown, data)
            draw(shown, data, program, Path(folder), IMAGES / f"{name}.png")
            print(name, flush=True)


def part(board: Json, rows: tuple[str, ...]) -> Json:
    """The board with these rows alone, one below the other."""
    kept, top, shift = [], 0, None
    for panel in board["panels"]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            shift = place["y"] - top if panel["title"] in rows else None
        if shift is not None:
            kept.append({**panel, "gridPos": {**place, "y": place["y"] - shift}})
            top = max(top, place["y"] - shift + place["h"])
    return {**board, "panels": kept}


def fitted(board: Json, data: Json) -> Json:
    """The board with panels, one below the other, that are as high as what they show."""
    shown, top = [], 0
    for panel in board["panels"]:
        height = panel["gridPos"]["h"]
        if panel["type"] == "traces":
            height = 2 + len(data["trace"]) * 30 // ROW + 1
        elif panel["type"] == "table":
            height = 3 + len(data["tables"][panel["id"]]["rows"])
        elif panel["type"] == "logs":
            height = 2 + len(data["logs"][panel["id"]]) * 21 // ROW + 1
        shown.append({**panel, "gridPos": {**panel["gridPos"], "y": top, "h": height}})
        top += height
    return {**board, "panels": shown}


def bundle() -> Path:
    """Give the folder with app.js and app.css; make it if this is the first time."""
    key = hashlib.sha256((HERE / "package.json").read_bytes() + (HERE / "app.jsx").read_bytes()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolspan" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "app.jsx"):
        shutil.copy(HERE / name, folder)
    if not (folder / "node_modules").exists():
        install = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--legacy-peer-deps")
        subprocess.check_call(install, cwd=folder)
    if not (folder / key / "app.js").exists():
        options = ("--bundle", "--minify", "--loader:.ttf=empty", '--define:process.env.NODE_ENV="production"')
        build = ("node_modules/.bin/esbuild", "app.jsx", *options, f"--outfile={key}/app.js")
        subprocess.check_call(build, cwd=folder)
    return folder / key


def draw(board: Json, data: Json, program: Path, folder: Path, picture: Path) -> None:
    """Have Chromium draw one dashboard."""
    page = folder / "page.html"
    values = f"window.BOARD={json.dumps(board)};window.DATA={json.dumps(data)}".replace("</", "<\\/")
    page.write_text(
        "<!doctype html><meta charset=utf8><body style='margin:0'><div id=root></div>"
        f"<link rel=stylesheet href='{program}/app.css'>"
        f"<script>{values}</script><script src='{program}/app.js'></script>"
    )
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"]) * ROW + HEAD
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=6000")
    where = (f"--user-data-dir={folder}/chromium", f"--window-size={WIDTH},{height}", f"--screenshot={picture}")
    subprocess.check_call(
        (CHROMIUM, *flags, *where, f"file://{page}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
