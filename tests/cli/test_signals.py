"""SIGTERM before anybody listens: it ends the process, but not in the middle of an import; and when all is over."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal
from toolspan.cli import signals

signals.install()
# It is sent again in the middle of what FILE does, twice.
again = "signal.raise_signal(signal.SIGTERM); signal.pause(); signal.pause(); os.write(1, b'went on')"
exec(compile(again, FILE, "exec"))
while True:
    signal.pause()
"""


def _ended(file: str) -> tuple[int, str]:
    command = [sys.executable, "-c", f"FILE = {file!r}\n{PROGRAM}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout


def test_an_import_is_not_cut_in_two_and_the_process_ends_right_after_it() -> None:
    assert _ended("<frozen importlib._bootstrap_external>") == (0, "went on")


def test_everything_else_ends_at_once() -> None:
    assert _ended("program.py") == (0, "")


def test_where_a_command_is_over_nothing_is_said_of_it() -> None:
    at_the_end = "import atexit, signal; atexit.register(signal.raise_signal, signal.SIGTERM)"
    command = "from toolspan.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", f"{at_the_end}; {command}", "--version"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
