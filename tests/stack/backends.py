"""What stands where Tempo and Loki are: keeps what the collector exports, as the wire has it."""

from __future__ import annotations

import gzip
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

from tests.telemetry.collector import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator


class Backends(Collector):
    """What came; while *refusing*, everything is turned away for good."""

    refusing = False


@contextmanager
def keeping() -> Iterator[Backends]:
    """Listen for OTLP over HTTP, compressed or not, on a free loopback port."""
    kept = Backends()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if not kept.refusing:
                kept.take(self.path.removeprefix("/otlp"), body)
            self.send_response(400 if kept.refusing else 200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        kept.endpoint = f"http://127.0.0.1:{server.server_port}"
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
