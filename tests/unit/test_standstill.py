"""A process that was stopped is told from one whose loop is blocked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from toolspan.standstill import Standstill

WAITS = """
import sys, threading, time
from toolspan.standstill import Standstill
standstill, stop = Standstill(at_least=0.5), threading.Event()
standstill.begins()
print("waits", flush=True)
stop.wait(0.1)
standstill.ends(after=0.1)
print(standstill.seconds)
"""


def _waited(standstill: Standstill, seconds: float) -> float:
    standstill.begins()
    threading.Event().wait(seconds)
    standstill.ends(after=seconds)
    return standstill.seconds


def test_a_process_that_was_stopped_stood_still() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        os.kill(process.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        # The time itself is what is tested.
        time.sleep(1.5)
        os.kill(process.pid, signal.SIGCONT)
        stood = float(process.stdout.readline())

    assert 0.5 < stood < time.monotonic() - stopped + 1


def test_a_blocked_loop_is_no_standstill() -> None:
    # As long as its thread is on time, whatever the loop does.
    assert _waited(Standstill(at_least=60), 0.01) == 0


def test_a_tool_that_holds_the_interpreter_is_no_standstill() -> None:
    standstill = Standstill(at_least=0.1)
    standstill.begins()
    while time.process_time() - standstill._used < 0.5:
        pass
    standstill.ends(after=0)

    assert standstill.seconds == 0
