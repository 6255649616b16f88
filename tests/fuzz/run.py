"""Gives very many broken entries to the codec, and says whether all of them were read or refused."""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import time

from rich.console import Console

from tests.fuzz.checks import LIMITS, check
from tests.fuzz.entries import Entries, Fields

ALLOWED_KIB = 16_384
"""By how much the process may grow once it has warmed up: less than one entry in a hundred would leave."""


def main() -> int:
    """Run until all are checked, or one is not what was promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    entries = Entries(options.seed, LIMITS)
    began, read, warm = time.monotonic(), 0, 0
    for number in range(options.entries):
        fields = entries.next()
        try:
            read += check(fields)
        except Exception as exc:
            exc.add_note(f"entry {number} of seed {options.seed}: {_told(fields)}")
            raise
        if number == options.entries // 10:
            warm = _largest_kib()
    gc.collect()
    seconds, grown = time.monotonic() - began, _largest_kib() - warm
    Console().print(
        f"{options.entries} entries in {seconds:.0f} s: {read} read, the others malformed; grown by {grown} KiB"
    )
    return int(grown > ALLOWED_KIB)


def _largest_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _told(fields: Fields) -> str:
    return repr([part if len(part) < 500 else part[:250] + b"..." + part[-50:] for part in fields[:40]])


if __name__ == "__main__":
    sys.exit(main())
