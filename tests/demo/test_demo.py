"""The first command that anybody types: what it shows, and that nothing of it stays behind."""

from __future__ import annotations

import asyncio
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


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _call(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toolspan", "call", "search", '{"query": "redis", "limit": 1}'],
        env={**os.environ, "TOOLSPAN_REDIS_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


async def _ended(process: subprocess.Popen[bytes]) -> int:
    [code] = await eventually(
        lambda: () if process.poll() is None else (process.returncode,), because="the demo ends by itself", within=100
    )
    return int(code)


async def test_the_demo_loses_no_call_and_shows_the_attempt_that_died(folder: Path) -> None:
    with _demo(folder) as (process, output):
        code = await _ended(process)

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
    assert _is_empty(folder)


async def test_a_demo_that_is_kept_serves_until_it_is_stopped(folder: Path) -> None:
    with _demo(folder, "--keep") as (process, output):
        await eventually(
            lambda: re.search(r"http://\S+/v1/tools/search/calls", output.read_text()),
            because="it says how to look around",
            within=100,
        )
        url = re.search(r"TOOLSPAN_REDIS_URL='(\S+)'", output.read_text())
        assert url
        called = await asyncio.to_thread(_call, url[1])
        process.send_signal(signal.SIGINT)
        code = await _ended(process)

    assert "redis 1" in called.stdout, called.stderr
    assert code == 0, output.read_text()
    assert _left_of(folder) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_a_demo_that_is_stopped_in_the_middle_leaves_no_process(folder: Path, number: signal.Signals) -> None:
    with _demo(folder) as (process, output):
        await eventually(lambda: "workers " in output.read_text(), because="the workers serve", within=60)
        process.send_signal(number)
        code = await _ended(process)

        await eventually(lambda: _left_of(folder) == [], because="nothing is left", within=30)
    assert code == (1 if number == signal.SIGINT else -signal.SIGKILL), output.read_text()
