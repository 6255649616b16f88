"""`make bench`: runs the cases, prints what became of the goals, and keeps the results of a whole run."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.case import Scale
from benchmarks.cases import CASES
from benchmarks.machine import Machine
from benchmarks.processes import Failure
from benchmarks.report.page import case_section, goals_table
from benchmarks.results import KEPT, Results
from benchmarks.stage import Stage
from benchmarks.turns import take_turns


def main() -> int:
    """Run what was asked for."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="these cases; nothing is kept")
    parser.add_argument(
        "--quick", action="store_true", help="small counts, one round: whether it works; nothing is kept"
    )
    parser.add_argument("--rounds", type=int, help="so many instead of what each case has")
    options = parser.parse_args()

    console = Console(stderr=True)
    with Stage() as stage:
        machine = Machine.this(stage.server())
    scale, began, runs = Scale(quick=options.quick), time.monotonic(), {}
    cases = [case for case in CASES if case.name in options.only]
    try:
        for case in cases:
            rounds = options.rounds or (1 if options.quick else case.rounds)
            with console.status("") as status:
                runs[case.name] = take_turns(case, scale, rounds=rounds, tell=status.update)
            console.print(Markdown(case_section(case, runs[case.name])))
    except Failure as exc:
        print(f"{case.name}: {exc}", file=sys.stderr)
        return 1
    print(goals_table(cases, runs))
    if not options.quick and len(cases) == len(CASES):
        minutes = round((time.monotonic() - began) / 60, 1)
        today = datetime.now(UTC).date().isoformat()
        Results(machine, today, " ".join(["make bench", *_arguments()]), minutes, runs).keep()
        print(f"\nkept in {KEPT.name}, after {minutes} minutes; make docs writes the page")
    return 0


def _arguments() -> list[str]:
    return [f"ARGS='{' '.join(sys.argv[1:])}'"] if len(sys.argv) > 1 else []


if __name__ == "__main__":
    sys.exit(main())
