"""What somebody who listens for OTLP is sent: a collector that keeps everything."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

Attributes = dict[str, Any]
Mood = Literal["good", "refuses", "garbage"]


class Collector:
    """Keeps what it is sent, each with the resource that it came from; answers only while *open*."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.mood: Mood = "good"
        self.seconds = 0.0
        """How long it takes to answer."""
        self.received: Counter[str] = Counter()
        """Bytes, by the path that they were sent to."""
        self._spans: list[tuple[Attributes, Any]] = []
        self._points: defaultdict[str, list[tuple[int, Attributes, float, Attributes]]] = defaultdict(list)
        """When it was measured, in ns of unix time, resource, value, attributes."""
        self._histograms: list[tuple[Attributes, str, Any]] = []
        self._records: list[tuple[Attributes, Any]] = []

    def spans(self, name: str) -> list[tuple[Attributes, Any]]:
        """The spans of this name, each after its resource."""
        return [found for found in self._spans if found[1].name == name]

    def every_span(self) -> list[tuple[Attributes, Any]]:
        """All spans that were exported, each after its resource."""
        return list(self._spans)

    def points(self, metric: str) -> list[tuple[Attributes, float, Attributes]]:
        """The points of a metric that were exported, in order: resource, value (a histogram's count), attributes."""
        return [(resource, value, more) for _, resource, value, more in list(self._points[metric])]

    def histograms(self, metric: str) -> list[tuple[Attributes, Any]]:
        """The points of a histogram that were exported, in order, each after its resource."""
        return [(resource, point) for resource, name, point in self._histograms if name == metric]

    def metrics(self) -> dict[str, set[str]]:
        """The names of all metrics that were exported, by `service.name`."""
        found: dict[str, set[str]] = {}
        named = [(resource, name) for name, points in list(self._points.items()) for _, resource, _, _ in points]
        named += [(resource, name) for resource, name, _ in self._histograms]
        for resource, name in named:
            found.setdefault(resource["service.name"], set()).add(name)
        return found

    def last(self, metric: str) -> dict[tuple[str, frozenset[tuple[str, Any]]], float]:
        """What each process exported last of a metric: `service.instance.id` and attributes to the value."""
        # A request that was given up may come in behind the one after it.
        return {
            (resource["service.instance.id"], frozenset(more.items())): value
            for _, resource, value, more in sorted(self._points[metric], key=itemgetter(0))
        }

    def sum(self, metric: str, *names: str) -> dict[tuple[Any, ...], float]:
        """What all processes together have counted, by the attributes *names*; nothing that is 0."""
        found: dict[tuple[Any, ...], float] = {}
        for (_, attributes), value in self.last(metric).items():
            key = tuple(dict(attributes).get(name, "") for name in names)
            found[key] = found.get(key, 0) + value
        return {key: value for key, value in found.items() if value}

    def times(self, metric: str) -> list[float]:
        """When the points of a metric were measured, in order, in seconds of unix time."""
        return [ns / 1e9 for ns, *_ in list(self._points[metric])]

    def records(self, event: str) -> list[tuple[Attributes, Any]]:
        """The log records of this event name, each after its resource."""
        return [found for found in self._records if found[1].event_name == event]

    def every_record(self) -> list[tuple[Attributes, Any]]:
        """All log records, each after its resource."""
        return list(self._records)

    def take(self, path: str, body: bytes) -> None:
        """Keep what is in one request."""
        self.received[path] += len(body)
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in group.scope_spans:
                    self._spans += [(plain(group.resource.attributes), span) for span in scope.spans]
        elif path == "/v1/metrics":
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                resource = plain(group.resource.attributes)
                for scope in group.scope_metrics:
                    for metric in scope.metrics:
                        self._measured(resource, metric)
        else:
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                for lines in logs.scope_logs:
                    self._records += [(plain(logs.resource.attributes), record) for record in lines.log_records]

    def _measured(self, resource: Attributes, metric: Any) -> None:
        numbers, histograms = metric.sum.data_points or metric.gauge.data_points, metric.histogram.data_points
        self._histograms += [(resource, metric.name, point) for point in histograms]
        self._points[metric.name] += [
            (point.time_unix_nano, resource, _value(point), plain(point.attributes)) for point in numbers or histograms
        ]


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Listen on a loopback port, a free one by default."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.asked.set()
            if collector.mood == "refuses":
                self.send_error(503)
                return
            if collector.mood == "garbage":
                self.wfile.write(b"\x00\xff no answer that anybody knows\r\n\r\n")
                self.close_connection = True
                return
            collector.open.wait(60)
            time.sleep(collector.seconds)
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

    with Server(("127.0.0.1", port), Handler) as server:
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
