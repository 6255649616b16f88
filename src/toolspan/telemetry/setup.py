"""Starts the SDK and its exporters, once per process; and ends them within a deadline."""

from __future__ import annotations

import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from toolspan.settings import OtlpSettings
from toolspan.telemetry import attributes as at
from toolspan.telemetry import exporters
from toolspan.telemetry.ids import DerivedIds
from toolspan.telemetry.probe import Probe
from toolspan.telemetry.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.trace import SpanProcessor

    from toolspan.keys import Keys

Service = Literal["worker", "gateway", "monitor", "operator"]

SCOPE: Final = "toolspan"
SHUTDOWN_SECONDS: Final = 5.0


class Telemetry:
    """The running telemetry of this process."""

    def __init__(self, probe: Probe, shutdowns: list[Callable[[], Any]]) -> None:
        self.probe = probe
        self._shutdowns = shutdowns

    def shutdown(self, timeout: float = SHUTDOWN_SECONDS) -> None:
        """Export what is left, for at most *timeout* seconds: a collector that hangs does not keep us."""
        # The SDK's own shutdown waits for as long as its exporters try again, one provider after the other.
        threads = [threading.Thread(target=end, name="telemetry", daemon=True) for end in self._shutdowns]
        deadline = time.monotonic() + timeout
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._shutdowns = []


def start(
    service: Service,
    *,
    keys: Keys,
    instance_id: str,
    server: tuple[str, int | None] | None = None,
    link_only: bool = False,
) -> Telemetry:
    """Start telemetry as the standard `OTEL_*` variables say; without an endpoint, nothing is exported.

    Providers that the program has set up itself are used as they are. Must be called after any fork.
    """
    otlp = OtlpSettings()
    resource = _resource(service, keys, instance_id)
    shutdowns: list[Callable[[], Any]] = []
    tracer_provider: trace.TracerProvider | None = _own(trace.get_tracer_provider(), "ProxyTracerProvider")
    ids: DerivedIds | None = None
    processor: SpanProcessor | None = None
    if tracer_provider is None and otlp.exports("traces"):
        ids = DerivedIds()
        processor = BatchSpanProcessor(exporters.spans(otlp))
        provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
        provider.add_span_processor(processor)
        trace.set_tracer_provider(provider)
        shutdowns.append(provider.shutdown)
        tracer_provider = provider
    meter_provider: metrics.MeterProvider | None = _own(metrics.get_meter_provider(), "_ProxyMeterProvider")
    exports_metrics = meter_provider is None and otlp.exports("metrics")
    if exports_metrics:
        meters = _meters(otlp, resource)
        metrics.set_meter_provider(meters)
        shutdowns.append(meters.shutdown)
        meter_provider = meters
    logger_provider: _logs.LoggerProvider | None = _own(_logs.get_logger_provider(), "ProxyLoggerProvider")
    if logger_provider is None and otlp.exports("logs"):
        loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
        loggers.add_log_record_processor(BatchLogRecordProcessor(exporters.logs(otlp)))
        _logs.set_logger_provider(loggers)
        shutdowns.append(loggers.shutdown)
        logger_provider = loggers

    def group_meter() -> Meter | None:
        # Whoever is elected reports under one name: a dead reporter's figures must not stand beside those of the next.
        if not exports_metrics:
            return meter_provider.get_meter(SCOPE) if meter_provider else None
        group = _meters(otlp, _resource("monitor", keys, f"{keys.prefix}:{keys.stream}"))
        shutdowns.append(group.shutdown)
        return group.get_meter(SCOPE, version(SCOPE))

    return Telemetry(
        make_probe(
            keys=keys,
            consumer=instance_id,
            server=server,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            ids=ids,
            ended=processor,
            resource=resource,
            group_meter=group_meter,
            link_only=link_only,
        ),
        shutdowns,
    )


def make_probe(
    *,
    keys: Keys,
    consumer: str,
    server: tuple[str, int | None] | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    logger_provider: _logs.LoggerProvider | None = None,
    ids: DerivedIds | None = None,
    ended: SpanProcessor | None = None,
    resource: Resource | None = None,
    group_meter: Callable[[], Meter | None] = lambda: None,
    link_only: bool = False,
) -> Probe:
    """Make a probe that reports to the given providers, and to none that is None."""
    release = version(SCOPE)
    address = {} if server is None else {at.SERVER_ADDRESS: server[0]}
    if server is not None and server[1] is not None:
        address[at.SERVER_PORT] = server[1]  # type: ignore[assignment]
    tracer = tracer_provider.get_tracer(SCOPE, release) if tracer_provider else None
    spans = Spans(
        tracer,
        ids=ids,
        ended=ended,
        resource=resource,
        keys=keys,
        consumer=consumer,
        server=address,
        link_only=link_only,
    )
    return Probe(
        keys=keys,
        spans=spans,
        tracer=tracer,
        meter=meter_provider.get_meter(SCOPE, release) if meter_provider else None,
        consumer=consumer,
        logger=logger_provider.get_logger(SCOPE, release) if logger_provider else None,
        group_meter=group_meter,
        server=address,
    )


def _own(provider: Any, placeholder: str) -> Any:
    """Give the provider that the program has set up; None if there is only OpenTelemetry's placeholder."""
    return None if type(provider).__name__ == placeholder else provider


def _resource(service: Service, keys: Keys, instance_id: str) -> Resource:
    return Resource.create(
        {
            "service.name": f"toolspan-{service}",
            "service.instance.id": instance_id,
            "service.version": version(SCOPE),
            at.STREAM: keys.stream,
        }
    )


def _meters(otlp: OtlpSettings, resource: Resource) -> MeterProvider:
    reader = PeriodicExportingMetricReader(exporters.metrics(otlp), export_interval_millis=otlp.metric_interval_ms)
    return MeterProvider([reader], resource, shutdown_on_exit=False)
