"""Traces in the terminal: which are drawn, and when."""

from __future__ import annotations

import io
import socket
import subprocess
import sys

from rich.console import Console

from toolspan.demo.sink import Sink, Span
from toolspan.demo.watch import _PATIENCE_SECONDS, _QUIET_SECONDS, _Watch

TRACE = b"t" * 16


def _span(name: str, span_id: bytes, parent_id: bytes = b"", *, failed: bool = False) -> Span:
    return Span(span_id, parent_id, name, 1, 2, failed, {}, "toolspan-worker", "w-1-aaaa")


CALL = _span("call greet", b"1")
SENT = _span("send sg:stream:tools", b"2", b"1")
TRIED = _span("process sg:stream:tools", b"3", b"2")
REPLY = _span("send sg:reply", b"4", b"3")


class Watched:
    """A watch whose clock is ours."""

    def __init__(self) -> None:
        self.sink = Sink()
        self._out = io.StringIO()
        self._watch = _Watch(Console(file=self._out, width=118), self.sink)
        self._now = 0.0

    def came(self, *spans: Span) -> None:
        self.sink.traces[TRACE] += spans

    def drawn_after(self, seconds: float) -> str:
        """What stands in the terminal so much later."""
        self._watch.look(self._now)
        self._now += seconds
        self._watch.look(self._now)
        return self._out.getvalue()


def test_a_call_that_was_answered_is_drawn_once_nothing_more_comes() -> None:
    watched = Watched()
    watched.came(CALL, SENT, TRIED, REPLY)

    assert watched.drawn_after(_QUIET_SECONDS / 2) == ""
    drawn = watched.drawn_after(_QUIET_SECONDS)
    assert TRACE.hex() in drawn
    assert "send sg:reply" in drawn
    assert watched.drawn_after(_PATIENCE_SECONDS) == drawn
    assert watched.sink.traces == {}


def test_a_trace_waits_for_the_worker_to_export() -> None:
    watched = Watched()
    watched.came(CALL, SENT)
    assert watched.drawn_after(_PATIENCE_SECONDS / 2) == ""

    watched.came(TRIED, REPLY)

    assert "process" in watched.drawn_after(_QUIET_SECONDS)


def test_a_call_that_nobody_answers_is_drawn_in_the_end_and_one_without_its_root_never() -> None:
    watched = Watched()
    watched.came(SENT)
    assert watched.drawn_after(_PATIENCE_SECONDS) == ""

    watched.came(CALL)

    assert "call greet" in watched.drawn_after(_PATIENCE_SECONDS)


def test_a_port_that_is_taken_is_said_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "toolspan.demo.watch", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port" in done.stderr
