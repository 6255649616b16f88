"""Somebody who is sent OTLP over HTTP, decodes all of it, and says what has come: a collector for timings.

Or one of those who do not: the one argument says in which way.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SLOW: Final = "slow"
REFUSING: Final = "refusing"
HANGING: Final = "hanging"
GARBAGE: Final = "garbage"

SLOW_SECONDS: Final = 2.0


class _Seen:
    """What has come so far. *last_span* is when the last span was decoded, by the monotonic clock of the machine."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spans = 0
        self.records = 0
        self.last_span = 0.0
        self.sums: dict[str, float] = {}

    def take(self, path: str, body: bytes) -> None:
        """Decode one request, and count what is in it."""
        if path == "/v1/traces":
            groups = ExportTraceServiceRequest.FromString(body).resource_spans
            count = sum(len(scope.spans) for group in groups for scope in group.scope_spans)
            with self.lock:
                self.spans += count
                self.last_span = time.monotonic()
        elif path == "/v1/metrics":
            self._measured(body)
        else:
            logs = ExportLogsServiceRequest.FromString(body).resource_logs
            with self.lock:
                self.records += sum(len(scope.log_records) for group in logs for scope in group.scope_logs)

    def _measured(self, body: bytes) -> None:
        for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    points: Any = metric.sum.data_points
                    if points:
                        self.sums[metric.name] = sum(getattr(one, one.WhichOneof("value")) for one in points)
                    for point in points:
                        errors = [pair.value.string_value for pair in point.attributes if pair.key == "error.type"]
                        if errors:
                            name = f"{metric.name} {errors[0]}"
                            self.sums[name] = getattr(point, point.WhichOneof("value"))


def main(trouble: str = "") -> None:
    """Listen on a free port, say which, and go on until killed."""
    seen = _Seen()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if trouble:
                self._fail()
            else:
                seen.take(self.path, body)
                self._answer(b"")

        def _fail(self) -> None:
            if trouble == HANGING:
                threading.Event().wait()
            elif trouble == SLOW:
                time.sleep(SLOW_SECONDS)
                self._answer(b"")
            elif trouble == REFUSING:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
            else:
                self._answer(b"what it says is no message of the protocol")

        def do_GET(self) -> None:
            counts = {"spans": seen.spans, "records": seen.records, "last_span": seen.last_span, "sums": seen.sums}
            self._answer(json.dumps(counts).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
