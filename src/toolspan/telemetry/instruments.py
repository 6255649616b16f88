"""Catalog entries turned into live instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.metrics import Observation
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from toolspan.telemetry import catalog
from toolspan.telemetry.histograms import named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry import metrics as api
    from opentelemetry.metrics import CallbackOptions, Meter

    from toolspan.telemetry.catalog import Metric
    from toolspan.telemetry.histograms import Bound, Example, Histograms


class Counter:
    """Counts in plain numbers, which an observable counter hands over: the same sum on the wire, far cheaper."""

    def __init__(self, meter: Meter | None, metric: Metric) -> None:
        self._names = metric.attributes
        self._counts: dict[tuple[str, ...], list[float]] = {}
        if meter is not None:
            meter.create_observable_counter(metric.name, [self._observe], metric.unit, metric.meaning)

    def add(self, *values: str, count: float = 1) -> None:
        """Count; *values* belong to the metric's attributes in their order, an empty one is left out."""
        found = self._counts.get(values)
        if found is None:
            found = self._counts[values] = [0]
        found[0] += count

    def cell(self, *values: str) -> list[float]:
        """Give what counts under *values*, a list of one number: for whoever counts so often that a look-up costs."""
        return self._counts.setdefault(values, [0])

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        for values, (count,) in list(self._counts.items()):
            yield Observation(count, named(self._names, values))


class Histogram:
    """Records durations in seconds, in *histograms* if there are any; else in the SDK's, where somebody listens."""

    def __init__(self, meter: Meter | None, metric: Metric, histograms: Histograms | None) -> None:
        self._names = metric.attributes
        self._histogram: api.Histogram | None = None
        if histograms is not None:
            made = histograms.make(metric)
            self.record, self.bound = made.record, made.bound  # type: ignore[method-assign]
        elif meter is not None:
            self._histogram = meter.create_histogram(
                metric.name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
            )

    def record(self, seconds: float, *values: str, sampled: Example | None = None) -> None:
        """Record; *values* belong to the metric's attributes in their order, an empty one is left out.

        *sampled* is a span that is exported, and an example of it.
        """
        if self._histogram is not None:
            self._histogram.record(seconds, named(self._names, values), _context_of(sampled))

    def bound(self, *values: str) -> Bound:
        """Give what records many under *values* at once: for whoever records so often that a look-up costs."""

        def record(seconds: list[float], examples: Iterable[tuple[float, Example]], /) -> None:
            of = dict(examples)
            for one in seconds:
                self.record(one, *values, sampled=of.get(one))

        return record


def gauge(meter: Meter, metric: Metric, read: Callable[[], Iterable[tuple[float, tuple[str, ...]]]]) -> None:
    """Let *read* be asked for the metric's values: each a number and the values of its attributes; none: unknown."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, named(metric.attributes, values)) for value, values in read()]

    meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.meaning)


def _context_of(sampled: Example | None) -> Context:
    """Give a context in which *sampled* is the current span, and none otherwise: ours is that of some other work."""
    if sampled is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    context = SpanContext(sampled.trace_id, sampled.span_id, is_remote=False, trace_flags=flags)
    return set_span_in_context(NonRecordingSpan(context), Context())


class Instruments:
    """All counters and histograms of one process; the latter are counted in *histograms*, if that is given."""

    def __init__(self, meter: Meter | None, histograms: Histograms | None = None) -> None:
        self.sent = Counter(meter, catalog.SENT)
        self.consumed = Counter(meter, catalog.CONSUMED)
        self.calls = Counter(meter, catalog.CALLS)
        self.attempts = Counter(meter, catalog.ATTEMPTS)
        self.reclaims = Counter(meter, catalog.RECLAIMS)
        self.unparked = Counter(meter, catalog.UNPARKED)
        self.reaps = Counter(meter, catalog.REAPS)
        self.stale_results = Counter(meter, catalog.STALE_RESULTS)
        self.wasted = Counter(meter, catalog.WASTED)
        self.lost = Counter(meter, catalog.LOST)
        self.dead_letters = Counter(meter, catalog.DEAD_LETTERS)
        self.replays = Counter(meter, catalog.REPLAYS)
        self.redis_errors = Counter(meter, catalog.REDIS_ERRORS)
        self.operation_duration = Histogram(meter, catalog.OPERATION_DURATION, histograms)
        self.process_duration = Histogram(meter, catalog.PROCESS_DURATION, histograms)
        self.execute_duration = Histogram(meter, catalog.EXECUTE_DURATION, histograms)
        self.call_duration = Histogram(meter, catalog.CALL_DURATION, histograms)
        self.phase_duration = Histogram(meter, catalog.PHASE_DURATION, histograms)
        self.lease_margin = Histogram(meter, catalog.LEASE_MARGIN, histograms)
        self.loop_lag = Histogram(meter, catalog.LOOP_LAG, histograms)
