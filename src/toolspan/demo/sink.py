"""Receives what the demo's processes export: the part of a trace backend, without one."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TRACES = "/v1/traces"
_STATUS_ERROR = 2


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it was exported. Times are unix nanoseconds."""

    span_id: bytes
    parent_id: bytes
    name: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: Mapping[str, Any]
    service: str
    instance: str


class Sink:
    """Keeps spans by trace; whatever else comes is thanked for and forgotten."""

    def __init__(self) -> None:
        self.traces: dict[bytes, list[Span]] = defaultdict(list)
        self.endpoint = ""

    def take(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of one export."""
        for resource_spans in request.resource_spans:
            resource = _plain(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    self.traces[span.trace_id].append(
                        Span(
                            span.span_id,
                            span.parent_span_id,
                            span.name,
                            span.start_time_unix_nano,
                            span.end_time_unix_nano,
                            span.status.code == _STATUS_ERROR,
                            _plain(span.attributes),
                            str(resource.get("service.name", "")),
                            str(resource.get("service.instance.id", "")),
                        )
                    )


@contextmanager
def listening(port: int = 0) -> Iterator[Sink]:
    """Listen for OTLP over HTTP on a loopback port, a free one unless *port* says which, in a thread."""
    sink = Sink()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == _TRACES:
                sink.take(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            # An empty message: all was accepted.
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing: the demo has the terminal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing: a connection that breaks is that of a process which was killed."""

    server = Server(("127.0.0.1", port), Handler)
    sink.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, name="otlp", daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        server.server_close()


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in attributes}
