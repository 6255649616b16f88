"""`toolspan call` on a terminal, and interrupted."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import Shell
from tests.support.eventually import eventually
from tests.support.toolbox import marked, tells
from toolspan.testing import Recorder, running_worker

if TYPE_CHECKING:
    from toolspan.settings import Settings


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "runs")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_interrupting_a_call_cancels_it(
    settings: Settings, tmp_path: Path, path: str, number: signal.Signals
) -> None:
    recorder = Recorder(settings.keys)
    shell = Shell.of(tmp_path, settings)
    async with running_worker(marked, settings=settings, probe=recorder.probe):
        async with shell.started("call", "marked", f'{{"path": "{path}", "seconds": 60}}') as process:
            await eventually(lambda: Path(path).exists(), because="it runs")
            process.send_signal(number)
            await process.communicate()

        await eventually(
            lambda: recorder.total("toolspan.calls", toolspan_outcome="cancelled") == 1, because="it is cancelled"
        )


async def test_progress_is_shown_on_a_terminal(settings: Settings, tmp_path: Path, path: str) -> None:
    shell = Shell.of(tmp_path, settings)
    ours, theirs = pty.openpty()
    command = (sys.executable, "-m", "toolspan", "call", "tells", f'{{"path": "{path}", "steps": 2}}')
    async with running_worker(tells, settings=settings):
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, env=shell.variables, stdout=asyncio.subprocess.PIPE, stderr=theirs
        )
        os.close(theirs)
        out, _ = await process.communicate()
        shown = os.read(ours, 10_000).decode().splitlines()
    os.close(ours)

    assert out == b"2\n"
    assert shown[:2] == ['{"step":0}', '{"step":1}']
    assert shown[2].startswith("attempt 1 on ")


async def test_programs_are_told_the_result_only(settings: Settings, tmp_path: Path, path: str) -> None:
    shell = Shell.of(tmp_path, settings)
    async with running_worker(tells, settings=settings):
        told = await shell.run("call", "tells", f'{{"path": "{path}", "steps": 2}}')

    assert told.out == "2\n"
    assert "step" not in told.err
