"""A loop that stands still is told of once each time, and a process that was stopped is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from tests.support.eventually import eventually
from toolspan.keys import Keys
from toolspan.loop_watch import LoopWatch
from toolspan.testing import Recorder

if TYPE_CHECKING:
    import pytest

WATCHED = """
import asyncio
from toolspan.keys import Keys
from toolspan.loop_watch import LoopWatch
from toolspan.telemetry.logs import configure
from toolspan.testing import Recorder

async def main():
    async with LoopWatch(Recorder(Keys()).probe, longest=0.5):
        print("watched", flush=True)
        await asyncio.to_thread(input)

configure("info", json=True)
asyncio.run(main())
"""


def _block(seconds: float) -> None:
    # The time itself is what is tested.
    time.sleep(seconds)


async def test_each_time_that_the_loop_stands_still_is_told_once_with_what_blocks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe = Recorder(Keys()).probe
    told: list[dict[str, Any]] = []
    lags: list[float] = []
    monkeypatch.setattr(probe, "loop_stalled", lambda **about: told.append(about))
    monkeypatch.setattr(probe, "loop_lagged", lags.append)
    async with LoopWatch(probe, longest=0.3):
        for stalls in (1, 2):
            _block(1.2)
            await eventually(lambda stalls=stalls: len(lags) > 2 * stalls, because="it goes on")  # type: ignore[misc]
            assert len(told) == stalls

    assert all("in _block" in one["stack"] and one["seconds"] > 0.3 for one in told)
    assert max(lags) > max(one["seconds"] for one in told)


def test_a_process_that_was_stopped_has_no_blocked_loop() -> None:
    command = [sys.executable, "-c", WATCHED]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "watched\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        assert process.stderr is not None
        line = process.stderr.readline()
        process.communicate("\n")

    assert '"event": "process.stood_still"' in line
    assert process.returncode == 0
