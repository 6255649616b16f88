"""Finished spans on their way out: a bounded queue, and a thread that writes and sends them in batches."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from toolspan.telemetry.lines import kept_here
from toolspan.telemetry.otlp.counts import QueueCounts, SpanCounts
from toolspan.telemetry.otlp.spans import request
from toolspan.telemetry.outages import told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from toolspan.settings import BatchSettings, OtlpSettings

log: Final = structlog.get_logger("toolspan")

Plain: TypeAlias = tuple[int, bytes]
"""The spans of one call, which were written before: how many they are, and their bytes."""

_Item: TypeAlias = tuple[int, "ReadableSpan | bytes"]

_MOST_OF_A_CALL: Final = 3
_FAREWELL_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Written:
    """An encoded request; for exporters, its length is how many spans are in it."""

    body: bytes
    count: int

    def __len__(self) -> int:
        """Tell how many spans are in it."""
        return self.count


class Outbox(SpanProcessor):
    """Takes spans from all threads and never waits; what it has no room for is dropped, and counted."""

    def __init__(self, exporter: SpanExporter, batches: BatchSettings, counts: QueueCounts, spans: SpanCounts) -> None:
        self.spans = spans
        """What counts the spans that are `put` here."""
        # The spans of a call are kept or dropped as one.
        self._most = max(batches.queue_size, _MOST_OF_A_CALL)
        self._batch = min(batches.batch_size, self._most)
        self._delay = batches.delay_ms / 1000
        self._exporter = exporter
        self._counts = counts
        self._part: Callable[[Sequence[bytes]], Sequence[bytes]] = lambda _: ()
        self._queue: deque[_Item] = deque()
        self._size = 0
        self._overflowing = False
        self._closed = self._given_up = False
        self._begin()
        counts.watch(self._looked_at, self._most)
        again = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (begin := again()) and begin())

    def _looked_at(self) -> int:
        """Tell how much waits; this is asked whenever metrics are collected."""
        self.spans.tell()
        return self._size

    def frames_by(self, part: Callable[[Sequence[bytes]], Sequence[bytes]]) -> None:
        """Have *part* make a part of a request of what `put` is given."""
        self._part = part

    def _begin(self) -> None:
        """Begin with an empty queue; so does a process that was forked, for its parent exports what it has."""
        self._lock = threading.Lock()
        self._exporting = threading.Lock()
        self._awake = threading.Event()
        self._queue.clear()
        self._size = 0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span of the SDK."""
        if span.context is not None and span.context.trace_flags.sampled:
            self._put([(1, span)])

    def put(self, calls: Sequence[Plain]) -> None:
        """Take the spans of some calls."""
        self._put(calls)

    def _put(self, items: Sequence[_Item]) -> None:
        dropped = 0
        with self._lock:
            for item in items:
                count = item[0]
                if self._closed or self._size + count > self._most:
                    dropped += count
                else:
                    self._size += count
                    self._queue.append(item)
        if dropped:
            self._dropped(dropped)
        if self._size >= self._batch and not self._awake.is_set():
            self._awake.set()

    def _dropped(self, count: int) -> None:
        self._counts.dropped(count, "already_shutdown" if self._closed else "queue_full")
        if not self._overflowing and not self._closed:
            self._overflowing = True
            # In an outage it has been told already.
            if not told("Queue full, dropping spans"):
                with kept_here():
                    log.warning("telemetry.dropped", signal="traces", queue=self._most)

    def _run(self) -> None:
        while not self._closed:
            woken = self._awake.wait(self._delay)
            self._awake.clear()
            self._export(all_of_it=not woken)
        self._export(all_of_it=True)

    def _export(self, *, all_of_it: bool) -> None:
        """Export full batches; with *all_of_it*, also what is left of what is there now.

        What comes meanwhile would leave in requests of a few spans each, and a request costs as much whatever is in it.
        """
        with self._exporting, suppress_instrumentation():
            left = self._size if all_of_it else 0
            while not self._given_up and (left > 0 or self._size >= self._batch):
                spans, plain, count = self._take()
                left -= count
                self._counts.finished(count)
                try:
                    written = Written(request(spans, self._part(plain) if plain else ()), count)
                    # It says itself what went wrong, if the collector is to blame.
                    self._exporter.export(written)  # type: ignore[arg-type]
                except Exception:
                    # One batch is lost by it; without this thread, all others would be.
                    with kept_here():
                        log.exception("telemetry.failed", signal="traces", spans=count)

    def _take(self) -> tuple[list[ReadableSpan], list[bytes], int]:
        spans: list[ReadableSpan] = []
        plain: list[bytes] = []
        count = 0
        with self._lock:
            while self._queue:
                size, item = self._queue[0]
                if count and count + size > self._batch:
                    break
                count += size
                self._queue.popleft()
                if isinstance(item, bytes):
                    plain.append(item)
                else:
                    spans.append(item)
            self._size -= count
            self._overflowing = False
        return spans, plain, count

    def force_flush(self, timeout_millis: int | None = None) -> bool:
        """Export all that is there, in this thread."""
        del timeout_millis
        if self._closed:
            return False
        self._export(all_of_it=True)
        return True

    def shutdown(self) -> None:
        """Export all that is there, take nothing more, and end the exporter, even if it hangs."""
        if self._closed:
            return
        ends = time.monotonic() + _FAREWELL_SECONDS
        with self._lock:
            self._closed = True
        self._awake.set()
        self._thread.join(max(0.0, ends - time.monotonic()))
        self._given_up = True
        self._exporter.shutdown()


def made(exporter: SpanExporter, otlp: OtlpSettings, meters: MeterProvider | None) -> Outbox:
    """Make one in front of *exporter*; what it tells of itself goes to *meters*."""
    enabled = otlp.sdk_is_watched
    return Outbox(exporter, otlp.batches, QueueCounts(meters, enabled=enabled), SpanCounts(meters, enabled=enabled))
