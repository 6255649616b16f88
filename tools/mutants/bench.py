"""Copies of the package, in one of which at a time a mutant is tried."""

import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path

from tools.mutants.mutant import Mutant

ROOT = Path(__file__).parents[2]

LONGEST_SECONDS = 900
"""After so long, tests that hang have noticed."""

# Whatever tests import besides our own package, which differs from mutant to mutant: every trial is a fork that has it.
_WARM = (
    "httpx",
    "hypothesis",
    "opentelemetry.instrumentation.redis",
    "opentelemetry.sdk.metrics",
    "opentelemetry.sdk.trace",
    "pydantic_settings",
    "pytest",
    "redis.asyncio",
    "rich.console",
    "starlette.applications",
    "structlog",
    "uvicorn",
)


@dataclass
class _Trial:
    mutant: Mutant
    stages: list[Sequence[str]]
    copy: Path
    original: str
    process: ForkProcess
    until: float


class Bench:
    """Tries mutants, as many at once as there are copies in *folder*."""

    def __init__(self, folder: Path, copies: int) -> None:
        self._free = [folder / str(number) for number in range(copies)]
        for copy in self._free:
            shutil.copytree(ROOT / "src", copy)
        for module in _WARM:
            __import__(module)

    def survivors(self, plans: Iterable[tuple[Mutant, Sequence[Sequence[str]]]]) -> Iterator[Mutant]:
        """Give those mutants with which the tests of all stages pass; each comes with its stages."""
        waiting = iter(plans)
        running: list[_Trial] = []
        while True:
            while self._free and (plan := next(waiting, None)) is not None:
                mutant, stages = plan
                running.append(self._begin(mutant, [stage for stage in stages if stage]))
            if not running:
                return
            wait([trial.process.sentinel for trial in running], timeout=1)
            for trial in [trial for trial in running if self._over(trial)]:
                running.remove(trial)
                if trial.process.exitcode == 0:
                    yield trial.mutant

    def _begin(self, mutant: Mutant, stages: list[Sequence[str]]) -> _Trial:
        copy = self._free.pop()
        file = copy / mutant.file
        original = file.read_text()
        file.write_text(mutant.apply(original))
        process = _run(copy, stages.pop(0))
        return _Trial(mutant, stages, copy, original, process, time.monotonic() + LONGEST_SECONDS)

    def _over(self, trial: _Trial) -> bool:
        """Whether nothing is left to run; whatever a test left behind is ended."""
        late = time.monotonic() > trial.until
        if trial.process.is_alive() and not late:
            return False
        _end(trial.process)
        if trial.process.exitcode == 0 and trial.stages:
            trial.process = _run(trial.copy, trial.stages.pop(0))
            trial.until = time.monotonic() + LONGEST_SECONDS
            return False
        (trial.copy / trial.mutant.file).write_text(trial.original)
        self._free.append(trial.copy)
        return True


def _run(copy: Path, tests: Sequence[str]) -> ForkProcess:
    process = multiprocessing.get_context("fork").Process(target=_test, args=(copy, tests))
    process.start()
    return process


def _test(copy: Path, tests: Sequence[str]) -> None:
    import pytest  # noqa: PLC0415 - its plugins shall find nothing of ours imported

    os.setsid()
    os.chdir(ROOT)
    # Before what is installed, here and in the processes that tests start.
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    # That they are imported before pytest is, is the point of a fork.
    quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    code = pytest.main(
        ["-q", "-x", "-p", "no:cacheprovider", "--assert=plain", *quiet, "-k", "not redis-server", *tests]
    )
    os._exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)


def _end(process: ForkProcess) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.join()
