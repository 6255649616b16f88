"""Time is Redis' time: what a gateway's own clock says changes nothing."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.commands import Shell, ended
from tests.support.toolbox import about, hangs
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from toolspan.settings import Settings

# A caller whose clock was wrong from the first import on.
CALLER = """
import asyncio, json, sys, time

ahead = float(sys.argv[1])
for name, factor in (("time", 1), ("time_ns", 10**9)):
    right = getattr(time, name)
    setattr(time, name, lambda right=right, factor=factor: right() + type(right())(ahead * factor))

from toolspan import ToolClient, ToolError, ToolTimeout

async def main():
    async with ToolClient() as tools:
        reply = await tools.call("about", timeout=5)
        try:
            await tools.call("hangs", timeout=0.1)
        except ToolTimeout as exc:
            print(json.dumps([reply.result["remaining"], reply.timings.queue, exc.type]))

asyncio.run(main())
"""


@pytest.mark.parametrize("ahead", ["10", "-10"])
async def test_a_caller_whose_clock_is_off_is_served_like_any_other(
    settings: Settings, tmp_path: Path, ahead: str
) -> None:
    shell = Shell.of(tmp_path, settings)
    async with (
        running_worker(about, hangs, settings=settings),
        shell.program(sys.executable, "-c", CALLER, ahead) as process,
    ):
        told = await ended(process)

    assert told.err == ""
    remaining, queued, error = _told(told.out)
    # Either side knows Redis' time to within half a round trip, not ten seconds.
    assert 3 < remaining < 6
    assert queued < 2_000
    assert error == "deadline_exceeded"


def _told(line: str) -> Any:
    return json.loads(line)
