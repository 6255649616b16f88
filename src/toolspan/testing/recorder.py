"""Telemetry kept in memory, for tests to look at."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from toolspan.keys import Keys
from toolspan.redaction import Redactor
from toolspan.telemetry.histograms import Histograms, JoiningMemory
from toolspan.telemetry.ids import DerivedIds
from toolspan.telemetry.setup import SCOPE, make_probe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from toolspan.telemetry.probe import Probe


class Recorder:
    """Records what one worker or client reports: give its *probe* to that, and look at the rest."""

    def __init__(
        self,
        keys: Keys | None = None,
        *,
        consumer: str = "test",
        link_only: bool = False,
        capture_args: bool = False,
        redact: Redactor | None = None,
    ) -> None:
        self._spans = InMemorySpanExporter()
        histograms = Histograms(SCOPE, version(SCOPE))
        self._metrics = JoiningMemory(histograms)
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        ids = DerivedIds()
        processor = SimpleSpanProcessor(self._spans)
        self._tracers = TracerProvider(id_generator=ids, shutdown_on_exit=False)
        self._tracers.add_span_processor(processor)
        meters = MeterProvider([self._metrics], shutdown_on_exit=False)
        self._loggers = LoggerProvider(shutdown_on_exit=False)
        self._loggers.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.probe: Probe = make_probe(
            keys=keys or Keys(),
            consumer=consumer,
            tracer_provider=self._tracers,
            meter_provider=meters,
            logger_provider=self._loggers,
            ids=ids,
            ended=processor,
            resource=self._tracers.resource,
            histograms=histograms,
            group_meter=lambda: meters.get_meter(SCOPE),
            link_only=link_only,
            capture_args=capture_args,
            redact=redact,
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, in the order in which they did."""
        return self._spans.get_finished_spans()

    @property
    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events, each a name and its attributes."""
        records = (data.log_record for data in self._logs.get_finished_logs())
        return [(record.event_name or "", dict(record.attributes or {})) for record in records]

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics that have data points."""
        return set(self._collected())

    def points(self, metric: str) -> list[tuple[float, dict[str, Any]]]:
        """The data points of *metric*: value (the count, for a histogram) and attributes of each."""
        return [(_value(point), dict(point.attributes or {})) for point in self._collected().get(metric, ())]

    def sums(self, metric: str) -> list[tuple[float, dict[str, Any]]]:
        """What the data points of the histogram *metric* add up to, each with its attributes."""
        return [(point.sum, dict(point.attributes or {})) for point in self.data_points(metric)]

    def data_points(self, metric: str) -> list[Any]:
        """The data points of *metric* as the SDK has them, exemplars included."""
        return self._collected().get(metric, [])

    def _collected(self) -> dict[str, list[Any]]:
        data = self._metrics.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for one in scope.metrics:
                    found.setdefault(one.name, []).extend(one.data.data_points)
        return {name: points for name, points in found.items() if points}

    def total(self, metric: str, **attributes: str) -> float:
        """The sum over the points of *metric* that have all *attributes*, named with `_` for `.`."""
        wanted = attributes.items()
        return sum(
            value
            for value, has in self.points(metric)
            if wanted <= {name.replace(".", "_"): value for name, value in has.items()}.items()
        )


def _value(point: Any) -> float:
    value = getattr(point, "value", None)
    return float(point.count if value is None else value)
