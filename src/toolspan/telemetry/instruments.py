"""Catalog entries turned into live instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from toolspan.telemetry import catalog
from toolspan.telemetry.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry import metrics as api
    from opentelemetry.metrics import CallbackOptions, Meter

    from toolspan.telemetry.catalog import Metric


class Counter:
    """Counts in plain integers, which an observable counter hands over: the same sum on the wire, far cheaper."""

    def __init__(self, meter: Meter | None, metric: Metric) -> None:
        self._names = metric.attributes
        self._counts: dict[tuple[str, ...], float] = {}
        if meter is not None:
            meter.create_observable_counter(metric.name, [self._observe], metric.unit, metric.meaning)

    def add(self, *values: str, count: float = 1) -> None:
        """Count; *values* belong to the metric's attributes in their order, an empty one is left out."""
        counts = self._counts
        counts[values] = counts.get(values, 0) + count

    def _observe(self, _: CallbackOptions) -> Iterable[Observation]:
        for values, count in list(self._counts.items()):
            yield Observation(count, _named(self._names, values))


class Histogram:
    """Records durations in seconds; does nothing where nobody listens."""

    def __init__(self, meter: Meter | None, metric: Metric) -> None:
        self._names = metric.attributes
        self._histogram: api.Histogram | None = None
        if meter is not None:
            self._histogram = meter.create_histogram(
                metric.name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
            )

    def record(self, seconds: float, *values: str) -> None:
        """Record; *values* belong to the metric's attributes in their order, an empty one is left out."""
        if self._histogram is not None:
            self._histogram.record(seconds, _named(self._names, values))


def gauge(meter: Meter, metric: Metric, read: Callable[[], Iterable[tuple[float, tuple[str, ...]]]]) -> None:
    """Let *read* be asked for the metric's values: each a number and the values of its attributes; none: unknown."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, _named(metric.attributes, values)) for value, values in read()]

    meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.meaning)


def _named(names: tuple[str, ...], values: tuple[str, ...]) -> dict[str, str]:
    return {name: clean(value) for name, value in zip(names, values, strict=False) if value}


class Instruments:
    """All counters and histograms of one process."""

    def __init__(self, meter: Meter | None) -> None:
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
        self.operation_duration = Histogram(meter, catalog.OPERATION_DURATION)
        self.process_duration = Histogram(meter, catalog.PROCESS_DURATION)
        self.execute_duration = Histogram(meter, catalog.EXECUTE_DURATION)
        self.call_duration = Histogram(meter, catalog.CALL_DURATION)
        self.phase_duration = Histogram(meter, catalog.PHASE_DURATION)
