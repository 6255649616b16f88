"""`make points`: a process dies at every point, in each scenario that takes it there, and every promise is kept."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.points import tour as tours
from tests.points.code import PARTS
from toolspan.testing import EmbeddedServer

_PAGE: Final = 200


async def _visit(options: argparse.Namespace, binary: str | None, folder: Path, part: str) -> list[str]:
    """Have all deaths of one part on one server, and say what was broken."""
    chance = random.Random(options.seed)
    with EmbeddedServer(binary=binary, tcp=True) as server:
        async with tours.Tour.on(server, folder, part) as tour:
            scouted = await tour.scout()
            broken = scouted.problems + tour.never(scouted) + tour.by_mistake(scouted)
            _say("\n".join(broken))
            deaths = [death for death in scouted.all() if options.only in tour.named(death)]
            chance.shuffle(deaths)
            began = time.monotonic()
            for first in range(0, len(deaths), _PAGE):
                found = await tour.visit(deaths[first : first + _PAGE], scouted, chance)
                broken += found
                done = min(first + _PAGE, len(deaths))
                _say(f"{done} of {len(deaths)} deaths, {time.monotonic() - began:.0f} s, {len(broken)} broken promises")
                _say("\n".join(found))
            broken += await tour.left()
    return broken


def _say(text: str) -> None:
    if text:
        print(text, flush=True)  # noqa: T201


def main() -> int:
    """Visit, and give the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="only points or scenarios whose name has this")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; repeatable")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", choices=["valkey", "redis"], action="append", help="only this one; repeatable")
    options = parser.parse_args()
    broken = []
    for name in options.server or ["valkey", *(["redis"] if shutil.which("redis-server") else [])]:
        for part in options.part or PARTS:
            _say(f"{part}, on {name}")
            with tempfile.TemporaryDirectory(prefix="points-") as folder:
                binary = None if name == "valkey" else shutil.which("redis-server")
                broken += asyncio.run(_visit(options, binary, Path(folder), part))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
