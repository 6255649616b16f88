"""`python -m tests.stack.flood`: calls of one tool at a steady rate, until it is ended."""

from __future__ import annotations

import argparse
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import count

CALLERS = 16
PATIENCE_MS = 900_000
"""Longer than any drill."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stack.flood", description=__doc__)
    parser.add_argument("url", help="where calls of the tool are posted")
    parser.add_argument("args", help="its arguments, as JSON")
    parser.add_argument("--first", type=int, default=0, help="calls that are there from the beginning")
    parser.add_argument("--rate", type=float, required=True, help="calls a second after these")
    parser.add_argument("--detach", action="store_true", help="nobody waits for what they give")
    parser.add_argument("--impatient-every", type=int, default=0, help="one of so many waits for a millisecond")
    given = parser.parse_args()
    asked = {"args": json.loads(given.args), "timeout_ms": PATIENCE_MS, **({"detach": True} if given.detach else {})}
    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as callers:
        for number in count(1):
            hurry = given.impatient_every and number % given.impatient_every == 0
            callers.submit(call, given.url, {**asked, **({"timeout_ms": 1} if hurry else {})})
            time.sleep(max(0, began + max(0, number - given.first) / given.rate - time.monotonic()))


def call(url: str, asked: dict[str, object]) -> None:
    request = urllib.request.Request(url, json.dumps(asked).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            response.read()
    except urllib.error.HTTPError as exc:
        exc.close()


if __name__ == "__main__":
    main()
