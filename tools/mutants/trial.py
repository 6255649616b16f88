"""One stage of tests in a process of its own, with all that it starts."""

import os
import select
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest

LONGEST_SECONDS = 900
"""After so long, tests that hang have noticed."""


def passes(test: Callable[[Sequence[str]], int], stage: Sequence[str]) -> bool:
    """Whether *test* gives no failure; whatever a test left behind is ended."""
    pid = os.fork()
    if pid == 0:
        _run(test, stage)
    watched = os.pidfd_open(pid)
    ended, _, _ = select.select([watched], [], [], LONGEST_SECONDS)
    os.close(watched)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return bool(ended) and os.waitstatus_to_exitcode(status) == 0


def _run(test: Callable[[Sequence[str]], int], stage: Sequence[str]) -> None:
    code = 1
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        code = test(stage)
    finally:
        os._exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)
