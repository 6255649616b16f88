"""OTLP exporters, over HTTP or gRPC; imported only where they are used, for they are heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

    from toolspan.settings import OtlpSettings


def spans(otlp: OtlpSettings, meters: MeterProvider | None = None) -> SpanExporter:
    """Make the exporter for spans, which takes them as `Written`; what it tells of itself goes to *meters*.

    Raises:
        ImportError, AttributeError: if the stock exporters are not inside what they were when ours was written.
    """
    collector = otlp.endpoint("traces")
    if otlp.protocol("traces") == "grpc":
        from toolspan.telemetry.otlp.grpc import GrpcExporter  # noqa: PLC0415

        return GrpcExporter(meters, collector)
    from toolspan.telemetry.otlp.http import HttpExporter  # noqa: PLC0415

    return HttpExporter(meters, collector, lent_session=otlp.lends_session)


def stock_spans(otlp: OtlpSettings, meters: MeterProvider | None = None) -> SpanExporter:
    """Make the SDK's own exporter for spans; what it tells of itself goes to *meters*."""
    if otlp.protocol("traces") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415

        return Grpc(meter_provider=meters)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415

    return Http(meter_provider=meters)


def metrics(otlp: OtlpSettings) -> MetricExporter:
    """Make the exporter for metrics."""
    if otlp.protocol("metrics") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as Grpc  # noqa: PLC0415

        return Grpc()
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as Http  # noqa: PLC0415

    return Http()


def logs(otlp: OtlpSettings, meters: MeterProvider | None = None) -> LogRecordExporter:
    """Make the exporter for events; what it tells of itself goes to *meters*."""
    if otlp.protocol("logs") == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as Grpc  # noqa: PLC0415

        return Grpc(meter_provider=meters)
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as Http  # noqa: PLC0415

    return Http(meter_provider=meters)
