"""OTLP over HTTP for what is written already: the stock exporter, with all its settings, but for its encoder."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace.export import SpanExportResult
from requests.utils import get_environ_proxies, get_netrc_auth

from toolspan.telemetry.otlp.counts import ExportCounts
from toolspan.telemetry.otlp.outbox import Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.trace import ReadableSpan

_log: Final = logging.getLogger("opentelemetry.exporter.toolspan")
_GOOD: Final = 200


def _is_plain(url: str) -> bool:
    """Tell whether there is nothing about requests to *url* that only `requests` sees to: TLS, proxies, credentials."""
    there = urlsplit(url)
    return (
        there.scheme == "http"
        and there.username is None
        and not get_environ_proxies(url)
        and get_netrc_auth(url) is None
    )


class HttpExporter(OTLPSpanExporter):
    """Sends what is written already. Where to, how often it tries again and for how long is the stock exporter's."""

    def __init__(self, meters: MeterProvider | None, collector: str, *, lent_session: bool = False) -> None:
        super().__init__(meter_provider=meters)
        if not lent_session and _is_plain(self._endpoint):
            # A third of the time for each request, in which the interpreter changes hands half as often.
            self._client._transport = Urllib3HTTPTransport()  # noqa: SLF001
        self._metrics: Any = ExportCounts(self._metrics, collector)
        self._submit = self._client._submit  # noqa: SLF001
        self._client._submit = self._submitted  # type: ignore[method-assign] # noqa: SLF001

    def _submitted(self, data: bytes, timeout: float) -> Any:
        answer = self._submit(data, timeout)
        if answer.status_code == _GOOD:
            self._look_into(answer.content())
        return answer

    def _look_into(self, answer: bytes) -> None:
        if not answer:
            return
        try:
            partial = ExportTraceServiceResponse.FromString(answer).partial_success
        except DecodeError:
            # It has taken them, whatever it says besides.
            return
        self._metrics.rejected(partial.rejected_spans, partial.error_message)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one request."""
        if not isinstance(spans, Written):
            return super().export(spans)
        if self._shutdown:
            return SpanExportResult.FAILURE
        with self._metrics.export_operation(spans.count) as result:
            size, most = len(spans.body), self._max_request_size
            if 0 < most < size:
                result.error = ValueError(f"{size} bytes are more than the {most} that a request may have")
                _log.warning("Failed to export spans: %s", result.error)
                return SpanExportResult.FAILURE
            sent = self._client.export(spans.body)
            if sent.success:
                return SpanExportResult.SUCCESS
            result.error = sent.error
            if sent.status_code is not None:
                result.error_attrs = {"http.response.status_code": sent.status_code}
            return SpanExportResult.FAILURE
