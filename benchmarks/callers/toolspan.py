"""Calls through our client."""

from __future__ import annotations

import sys

import uvloop

from benchmarks.pace import paced, tell
from toolspan import ToolClient


async def _main(rate: float, seconds: float) -> list[float | None]:
    async with ToolClient() as client:
        return await paced(lambda: client.call("echo", {"n": 1}), rate, seconds)


if __name__ == "__main__":
    tell(uvloop.run(_main(float(sys.argv[1]), float(sys.argv[2]))))
