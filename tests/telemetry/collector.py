"""What somebody who listens for OTLP is sent: a collector that keeps everything."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

Attributes = dict[str, Any]


class Collector:
    """Keeps what it is sent, each with the resource that it came from; answers only while *open*."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self._spans: list[tuple[Attributes, Any]] = []
        self._points: list[tuple[Attributes, str, float, Attributes]] = []
        self._records: list[tuple[Attributes, Any]] = []

    def spans(self, name: str) -> list[tuple[Attributes, Any]]:
        """The spans of this name, each after its resource."""
        return [found for found in self._spans if found[1].name == name]

    def every_span(self) -> list[tuple[Attributes, Any]]:
        """All spans that were exported, each after its resource."""
        return list(self._spans)

    def points(self, metric: str) -> list[tuple[Attributes, float, Attributes]]:
        """The points of a metric that were exported, in order: resource, value (a histogram's count), attributes."""
        return [(resource, value, more) for resource, name, value, more in self._points if name == metric]

    def records(self, event: str) -> list[tuple[Attributes, Any]]:
        """The log records of this event name, each after its resource."""
        return [found for found in self._records if found[1].event_name == event]

    def every_record(self) -> list[tuple[Attributes, Any]]:
        """All log records, each after its resource."""
        return list(self._records)

    def take(self, path: str, body: bytes) -> None:
        """Keep what is in one request."""
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in group.scope_spans:
                    self._spans += [(plain(group.resource.attributes), span) for span in scope.spans]
        elif path == "/v1/metrics":
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for within in metrics.scope_metrics:
                    for metric in within.metrics:
                        self._points += [
                            (plain(metrics.resource.attributes), metric.name, _value(point), plain(point.attributes))
                            for point in (
                                metric.sum.data_points or metric.gauge.data_points or metric.histogram.data_points
                            )
                        ]
        else:
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                for lines in logs.scope_logs:
                    self._records += [(plain(logs.resource.attributes), record) for record in lines.log_records]


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen on a free loopback port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked.set()
            collector.open.wait(60)
            collector.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        collector.endpoint = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            collector.open.set()
            server.shutdown()


def plain(attributes: Any) -> Attributes:
    """Attributes of OTLP as a dictionary."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}


def _value(point: Any) -> float:
    if hasattr(point, "bucket_counts"):
        return float(point.count)
    return float(getattr(point, point.WhichOneof("value")))
