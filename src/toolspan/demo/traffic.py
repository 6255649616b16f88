"""`python -m toolspan.demo.traffic`: calls of the demo's tools without end, most of them well, some with faults."""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import from_json, to_json

from toolspan.demo.load import KINDS, Kind

_TOLD_EVERY: Final = 15.0
_USUAL: Final = 30.0
_DEADLY: Final = KINDS[-1]
_HURRY: Final = Kind("summarise", {"text": "It was a dark and stormy night"}, 24, "its caller does not wait")
# What each kind is given. What kills workers is answered once it has been quarantined, many leases later.
_PATIENCE: Final = {_HURRY: 0.4, _DEADLY: 300.0}


@dataclass(frozen=True, slots=True)
class _Gateway:
    host: str
    port: int


def main() -> None:
    """Call until we are ended."""
    parser = argparse.ArgumentParser(prog="python -m toolspan.demo.traffic", description=__doc__)
    parser.add_argument("--gateway", default="http://127.0.0.1:8080", help="URL of the gateway")
    parser.add_argument("--rate", type=float, default=10.0, help="calls a second")
    parser.add_argument(
        "--deadly-every", type=float, default=0.0, help="seconds between calls that kill a worker; 0: none"
    )
    given = parser.parse_args()
    url = urlsplit(given.gateway)
    Traffic(_Gateway(url.hostname or "127.0.0.1", url.port or 80)).run(given.rate, given.deadly_every)


class Traffic:
    """Makes each call in a thread of its own, so that a slow one holds up nobody."""

    def __init__(self, gateway: _Gateway) -> None:
        self._gateway = gateway
        self._ended: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, rate: float, deadly_every: float) -> None:
        """Call *rate* times a second, for ever."""
        kinds = [*KINDS[:-1], _HURRY]
        told = time.monotonic()
        killed = told - deadly_every
        while True:
            [kind] = random.choices(kinds, [kind.count for kind in kinds])  # noqa: S311
            self._start(kind)
            now = time.monotonic()
            if deadly_every and now - killed >= deadly_every:
                killed = now
                self._start(_DEADLY)
            if now - told >= _TOLD_EVERY:
                told = now
                self._tell()
            time.sleep(random.expovariate(rate))

    def _start(self, kind: Kind) -> None:
        threading.Thread(target=self._one, args=(kind,), daemon=True).start()

    def _one(self, kind: Kind) -> None:
        try:
            how = self._call(kind)
        except (OSError, HTTPException, ValueError) as exc:
            how = type(exc).__name__
        with self._lock:
            self._ended[how] += 1

    def _call(self, kind: Kind) -> str:
        patience = _PATIENCE.get(kind, _USUAL)
        connection = HTTPConnection(self._gateway.host, self._gateway.port, timeout=patience + _USUAL)
        try:
            body = to_json({"args": kind.args, "timeout_ms": int(patience * 1000)})
            connection.request("POST", f"/v1/tools/{kind.tool}/calls", body, {"Content-Type": "application/json"})
            answer: dict[str, Any] = from_json(connection.getresponse().read())
            return str(answer["error"]["type"]) if "error" in answer else "ok"
        finally:
            connection.close()

    def _tell(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, Counter()
        sys.stdout.buffer.write(to_json({"event": "traffic.ended", **ended}) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
