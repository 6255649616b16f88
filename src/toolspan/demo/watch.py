"""`python -m toolspan.demo.watch`: draws every trace that comes in over OTLP in this terminal, without a backend."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console

from toolspan.demo.sink import listening
from toolspan.demo.waterfall import LEGEND, complete, waterfall

if TYPE_CHECKING:
    from toolspan.demo.sink import Sink, Span

_QUIET_SECONDS: Final = 1.0
"""How long nothing may come to the trace of a call that was answered before it is drawn."""

_PATIENCE_SECONDS: Final = 10.0
"""The same for any other: each process exports when it likes, a worker every five seconds."""

_POLL_SECONDS: Final = 0.1
_WIDTH: Final = 118
_TRACES_KEPT: Final = 1_000


class _Watch:
    """Draws each trace once it is complete and quiet, and forgets it."""

    def __init__(self, console: Console, sink: Sink) -> None:
        self._console = console
        self._sink = sink
        self._seen: dict[bytes, tuple[int, float]] = {}

    def look(self, now: float) -> None:
        """Draw what is complete and has not grown for a while."""
        for trace_id, spans in list(self._sink.traces.items())[:_TRACES_KEPT]:
            grown, since = self._seen.get(trace_id, (0, now))
            if len(spans) != grown:
                self._seen[trace_id] = (len(spans), now)
            elif now - since >= (_QUIET_SECONDS if _answered(spans) else _PATIENCE_SECONDS) and complete(spans):
                self._draw(trace_id, list(spans))
                del self._sink.traces[trace_id], self._seen[trace_id]

    def _draw(self, trace_id: bytes, spans: list[Span]) -> None:
        self._console.print(f"[dim]trace {trace_id.hex()}[/]")
        self._console.print(waterfall(spans, width=self._console.width))


def _answered(spans: list[Span]) -> bool:
    """Whether a worker has told that it sent the reply: what comes after that is in the same export."""
    attempts = {span.span_id for span in spans if span.name.startswith("process")}
    return any(span.parent_id in attempts and span.name.startswith("send") for span in spans)


def main() -> None:
    """Listen until we are ended."""
    parser = argparse.ArgumentParser(prog="python -m toolspan.demo.watch", description=__doc__)
    parser.add_argument("--port", type=int, default=4318, help="0 picks a free one")
    given = parser.parse_args()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    try:
        with listening(given.port) as sink:
            console.print(f"listening for OTLP: OTEL_EXPORTER_OTLP_ENDPOINT={sink.endpoint}", soft_wrap=True)
            console.print(f"[dim]{LEGEND}[/]\n")
            sys.stdout.flush()
            watch = _Watch(console, sink)
            while True:
                time.sleep(_POLL_SECONDS)
                watch.look(time.monotonic())
                sys.stdout.flush()
    except OSError as exc:
        sys.stderr.write(f"cannot listen on 127.0.0.1:{given.port}: {exc.strerror}; choose another --port\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
