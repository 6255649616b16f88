"""The first command that anybody types: what it shows, and that nothing of it stays behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@contextmanager
def _demo(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Start a demo whose server, logs and processes can be told by *folder*."""
    output = folder.parent / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "toolspan", "demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "TMPDIR": str(folder), "COLUMNS": "130"},
        )
    try:
        yield process, output
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "demo"
    made.mkdir()
    return made


def _left_of(folder: Path) -> list[str]:
    """The processes that were started with *folder* in their environment or on their command line."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and process.name != str(os.getpid()):
            try:
                told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in told:
                found.append(process.name)
    return found


async def _ended(process: subprocess.Popen[bytes], output: Path) -> int:
    await eventually(lambda: process.poll() is not None, because="the demo ends by itself", within=100)
    assert process.returncode is not None, output.read_text()
    return process.returncode


async def test_the_demo_loses_no_call_and_shows_the_attempt_that_died(folder: Path) -> None:
    with _demo(folder) as (process, output):
        code = await _ended(process, output)

    told = output.read_text()
    killed = re.search(r"SIGKILL for (\S+),", told)
    assert code == 0, told
    assert "355 calls, 355 replies" in told
    assert "still open: 0; dead letters: 1 (worker_lost)" in told
    assert "1 quarantined" in told
    assert killed, told
    lost = next(line for line in told.splitlines() if killed[1] in line and line.lstrip(" │├└").startswith("process"))
    assert "worker_lost" in lost
    assert _left_of(folder) == []
    assert list(folder.iterdir()) == []


async def test_a_demo_that_is_kept_serves_until_it_is_stopped(folder: Path) -> None:
    with _demo(folder, "--keep") as (process, output):
        await eventually(
            lambda: re.search(r"http://\S+/v1/tools/search/calls", output.read_text()),
            because="it says how to look around",
            within=100,
        )
        url = re.search(r"TOOLSPAN_REDIS_URL='(\S+)'", output.read_text())
        assert url
        called = subprocess.run(
            [sys.executable, "-m", "toolspan", "call", "search", '{"query": "redis", "limit": 1}'],
            env={**os.environ, "TOOLSPAN_REDIS_URL": url[1]},
            capture_output=True,
            text=True,
            check=False,
        )
        process.send_signal(signal.SIGINT)
        code = await _ended(process, output)

    assert "redis 1" in called.stdout, called.stderr
    assert code == 0, output.read_text()
    assert _left_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_demo_that_is_stopped_in_the_middle_leaves_no_process(folder: Path, number: signal.Signals) -> None:
    with _demo(folder) as (process, output):
        await eventually(lambda: "workers " in output.read_text(), because="the workers serve", within=60)
        process.send_signal(number)
        code = await _ended(process, output)

        await eventually(lambda: _left_of(folder) == [], because="nothing is left", within=30)
    assert code == (1 if number == signal.SIGINT else -signal.SIGKILL), output.read_text()
