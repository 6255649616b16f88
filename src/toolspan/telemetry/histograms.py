"""Histograms counted by ourselves, for a fraction of what the SDK takes, and joined to its metrics at export."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    HistogramDataPoint,
    InMemoryMetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.export import Histogram as HistogramData
from opentelemetry.sdk.metrics.export import Metric as MetricData
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from toolspan.telemetry.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from toolspan.telemetry.catalog import Metric


class Bound(Protocol):
    """Counts seconds in one series of a histogram, many at once, with examples of some of them."""

    def __call__(self, seconds: list[float], examples: Iterable[tuple[float, Example]], /) -> None:
        """Count them; the list is ours from here on."""


class Example(Protocol):
    """A span that is exported, as an example of what was measured; asked for its name when that is exported."""

    @property
    def trace_id(self) -> int:
        """The id of its trace."""

    @property
    def span_id(self) -> int:
        """The id of the span."""


class Sampled(NamedTuple):
    """A span whose ids are known."""

    trace_id: int
    span_id: int


class Bucketed:
    """One histogram: cumulative, with explicit boundaries and the last example of each bucket."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self._series: dict[tuple[str, ...], _Series] = {}

    def record(self, seconds: float, *values: str, sampled: Example | None = None) -> None:
        """Count *seconds* under the *values* of the metric's attributes, in their order."""
        self._of(values).add(seconds, sampled)

    def bound(self, *values: str) -> Bound:
        """Give what counts many seconds under *values* at once: for whoever counts so often that a look-up costs."""
        return self._of(values).add_all

    def _of(self, values: tuple[str, ...]) -> _Series:
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = _Series(self.metric.buckets)
        return series

    def points(self, since_ns: int, now_ns: int) -> list[HistogramDataPoint]:
        """Give what was counted since *since_ns*, and each example once."""
        return [
            series.point(named(self.metric.attributes, values), since_ns, now_ns)
            for values, series in list(self._series.items())
            if series.counted
        ]


class _Series:
    """The numbers of one set of attributes."""

    __slots__ = ("boundaries", "counts", "examples", "least", "most", "sum")

    def __init__(self, boundaries: Sequence[float]) -> None:
        self.boundaries = boundaries
        self.counts = [0] * (len(boundaries) + 1)
        self.sum = 0.0
        self.least = math.inf
        self.most = -math.inf
        self.examples: dict[int, tuple[float, Example, int]] = {}

    def add(self, seconds: float, example: Example | None = None) -> None:
        """Count *seconds*, of which *example* is one."""
        # A boundary belongs to the bucket that it ends.
        bucket = bisect_left(self.boundaries, seconds)
        self.counts[bucket] += 1
        self.sum += seconds
        # A call of min() or max() would cost as much as all the rest.
        if seconds < self.least:  # noqa: PLR1730
            self.least = seconds
        if seconds > self.most:  # noqa: PLR1730
            self.most = seconds
        if example is not None:
            self.examples[bucket] = (seconds, example, time.time_ns())

    def add_all(self, seconds: list[float], examples: Iterable[tuple[float, Example]]) -> None:
        """Count all of *seconds*, and keep the *examples* of some."""
        # In their order, those of a bucket stand together: one look-up for each bucket, not for each of them.
        seconds.sort()
        boundaries, counts = self.boundaries, self.counts
        end = 0
        while end < len(seconds):
            begin = end
            bucket = bisect_left(boundaries, seconds[begin])
            end = bisect_right(seconds, boundaries[bucket], begin) if bucket < len(boundaries) else len(seconds)
            counts[bucket] += end - begin
        for one, example in examples:
            self.examples[bisect_left(boundaries, one)] = (one, example, time.time_ns())
        self.sum += sum(seconds)
        self.least = min(self.least, seconds[0])
        self.most = max(self.most, seconds[-1])

    @property
    def counted(self) -> bool:
        """Whether there is anything to tell."""
        return self.most >= self.least

    def point(self, attributes: dict[str, str], since_ns: int, now_ns: int) -> HistogramDataPoint:
        """Give it as the exporters want it. Others record meanwhile: what counts is one copy of the buckets."""
        counts, examples = self.counts.copy(), self.examples
        self.examples = {}
        return HistogramDataPoint(
            attributes,
            since_ns,
            now_ns,
            sum(counts),
            self.sum,
            counts,
            self.boundaries,
            self.least,
            self.most,
            [
                Exemplar({}, seconds, at_ns, sampled.span_id, sampled.trace_id)
                for seconds, sampled, at_ns in list(examples.values())
            ],
        )


class Histograms:
    """All histograms of one process that are counted here, until a reader takes them along."""

    def __init__(self, scope: str, version: str) -> None:
        self._scope = InstrumentationScope(scope, version)
        self._since_ns = time.time_ns()
        self._all: list[Bucketed] = []

    def make(self, metric: Metric) -> Bucketed:
        """Make one more."""
        made = Bucketed(metric)
        self._all.append(made)
        return made

    def joined(self, data: MetricsData) -> MetricsData:
        """Give *data* with ours among its metrics: one resource, one scope, as if the SDK had counted them."""
        ours = self._metrics()
        if not ours or not data.resource_metrics:
            return data
        first, *others = data.resource_metrics
        same = [scope for scope in first.scope_metrics if self._is_ours(scope.scope)]
        rest = [scope for scope in first.scope_metrics if not self._is_ours(scope.scope)]
        known = [metric for scope in same for metric in scope.metrics]
        whole = ScopeMetrics(self._scope, [*known, *ours], same[0].schema_url if same else "")
        return MetricsData([replace(first, scope_metrics=[whole, *rest]), *others])

    def _is_ours(self, scope: InstrumentationScope) -> bool:
        return (scope.name, scope.version) == (self._scope.name, self._scope.version)

    def _metrics(self) -> list[MetricData]:
        now_ns = time.time_ns()
        found = [(one.metric, one.points(self._since_ns, now_ns)) for one in self._all]
        return [
            MetricData(
                metric.name, metric.meaning, metric.unit, HistogramData(points, AggregationTemporality.CUMULATIVE)
            )
            for metric, points in found
            if points
        ]


class JoiningReader(PeriodicExportingMetricReader):
    """Exports what the SDK has collected, with *histograms* of ours."""

    def __init__(self, histograms: Histograms, *arguments: Any, **named_arguments: Any) -> None:
        self._histograms = histograms
        super().__init__(*arguments, **named_arguments)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(self._histograms.joined(metrics_data), timeout_millis, **kwargs)


class JoiningMemory(InMemoryMetricReader):
    """Keeps what the SDK has collected, with *histograms* of ours; for tests."""

    def __init__(self, histograms: Histograms) -> None:
        self._histograms = histograms
        super().__init__()

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(self._histograms.joined(metrics_data), timeout_millis, **kwargs)


def named(names: Iterable[str], values: Iterable[str]) -> dict[str, str]:
    """Give the attributes that *values* are those of, in their order; an empty one is left out.

    Raises:
        ValueError: if there are more or fewer of them: the catalog and whoever counts do not agree.
    """
    return {name: clean(value) for name, value in zip(names, values, strict=True) if value}
