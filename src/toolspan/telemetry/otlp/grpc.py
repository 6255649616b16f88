"""OTLP over gRPC for what is written already: the stock exporter, with all its settings, but for its encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from toolspan.telemetry.otlp.counts import ExportCounts
from toolspan.telemetry.otlp.outbox import Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import ReadableSpan


class GrpcExporter(OTLPSpanExporter):
    """Sends what is written already. Where to, how often it tries again and for how long is the stock exporter's."""

    def __init__(self, meters: MeterProvider | None, collector: str) -> None:
        super().__init__(meter_provider=meters)
        self._metrics: Any = ExportCounts(self._metrics, collector)

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]
        channel: Any = self._channel
        self._client: Any = self
        self._call = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            response_deserializer=ExportTraceServiceResponse.FromString,
        )

    def Export(self, request: Any, metadata: Any, timeout: float) -> None:  # noqa: N802 - as stubs are called
        """Send one request, once."""
        partial = self._call(request, metadata=metadata, timeout=timeout).partial_success
        self._metrics.rejected(partial.rejected_spans, partial.error_message)

    def _translate_data(self, data: Sequence[ReadableSpan]) -> Any:
        return data.body if isinstance(data, Written) else super()._translate_data(data).SerializeToString()

    def _count_data(self, data: Sequence[ReadableSpan]) -> int:
        return len(data)
