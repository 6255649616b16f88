"""Copies of the package, in one of which at a time a mutant is tried."""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

from tools.mutants.mutant import Mutant
from tools.mutants.trial import passes

ROOT = Path(__file__).parents[2]

SERVER = "valkey"
"""What one server does not notice, the other one does not either: they run the same Lua."""

Stage = Sequence[str]
"""What pytest is given to run: options, files, folders, or names of tests."""

Test = Callable[[Stage], int]
"""Runs a stage and gives pytest's exit code; in a process of its own, which ends then."""

Lane = Callable[[Callable[[Test], None]], None]
"""Prepares a process for the trials in one copy, and hands over what runs a stage there."""


class Bench:
    """Tries mutants, as many at once as there are copies in *folder*; each copy has a process that forks for each."""

    def __init__(self, folder: Path, copies: int, lane: Lane) -> None:
        self._lanes: list[Connection] = []
        for number in range(copies):
            copy = folder / str(number)
            shutil.copytree(ROOT / "src", copy / "src")
            (copy / "tmp").mkdir()
            ours, theirs = multiprocessing.Pipe()
            self._lanes.append(ours)
            context = multiprocessing.get_context("fork")
            context.Process(target=_serve, args=(copy, lane, theirs, self._lanes), daemon=True).start()
            theirs.close()

    def survivors(self, plans: Iterable[tuple[Mutant, Sequence[Stage]]]) -> Iterator[Mutant]:
        """Give those mutants with which the tests of all stages pass; each comes with its stages."""
        waiting = iter(plans)
        running: dict[Connection, Mutant] = {}
        while True:
            for lane in self._lanes:
                if lane not in running and (plan := next(waiting, None)) is not None:
                    running[lane] = plan[0]
                    lane.send(plan)
            if not running:
                return
            ready = wait([*running])
            for lane in [lane for lane in running if lane in ready]:
                mutant = running.pop(lane)
                try:
                    survived = lane.recv()
                except EOFError:
                    sys.exit(f"the process that tried {mutant} has ended: can the tests be collected?")
                if survived:
                    yield mutant


def _serve(copy: Path, lane: Lane, plans: Connection, others: Iterable[Connection]) -> None:
    """Try the mutants that come, one after the other, until nobody is left to send one."""
    for other in others:
        other.close()
    os.chdir(ROOT)
    # Before what is installed, here and in the processes that tests start.
    sys.path.insert(0, str(copy / "src"))
    os.environ["PYTHONPATH"] = str(copy / "src")
    os.environ["TMPDIR"] = str(copy / "tmp")
    os.environ["TEST_SERVERS"] = SERVER

    def serve(test: Test) -> None:
        while True:
            try:
                mutant, stages = plans.recv()
            except EOFError:
                return
            file = copy / "src" / mutant.file
            original = file.read_text()
            file.write_text(mutant.apply(original))
            plans.send(all(passes(test, stage) for stage in stages if stage))
            file.write_text(original)
            for left in (copy / "tmp").iterdir():
                shutil.rmtree(left, ignore_errors=True)

    lane(serve)
