"""`python -m toolspan.demo.pager`: where the local stack's alerts end, one line of JSON for each."""

from __future__ import annotations

import argparse
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from pydantic_core import from_json, to_json

_MAX_BYTES: Final = 4 << 20


class _Notified(BaseHTTPRequestHandler):
    """Takes what Alertmanager posts to the path of a receiver."""

    def do_GET(self) -> None:
        """Say that we are there."""
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        """Write a line for each alert of the notification."""
        size = int(self.headers.get("Content-Length", "0"))
        try:
            alerts: list[dict[str, Any]] = from_json(self.rfile.read(min(size, _MAX_BYTES)))["alerts"]
            lines = [_line(self.path.strip("/"), alert) for alert in alerts]
        except (ValueError, KeyError, TypeError):
            self.send_error(400, "not a notification of Alertmanager")
            return
        sys.stdout.buffer.write(b"".join(lines))
        sys.stdout.buffer.flush()
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it so
        """Write no line for each request: the alerts are what matters."""


def _line(receiver: str, alert: dict[str, Any]) -> bytes:
    told = {
        "event": f"alert.{alert['status']}",
        "receiver": receiver,
        "alert": alert["labels"]["alertname"],
        "summary": alert["annotations"].get("summary", ""),
        "since": alert["startsAt"],
        "labels": alert["labels"],
        "runbook": alert["annotations"].get("runbook_url", ""),
        "dashboard": alert["annotations"].get("dashboard_url", ""),
    }
    return to_json(told) + b"\n"


def main() -> None:
    """Listen until we are ended."""
    parser = argparse.ArgumentParser(prog="python -m toolspan.demo.pager", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9095, help="0 picks a free one")
    given = parser.parse_args()
    with ThreadingHTTPServer((given.host, given.port), _Notified) as server:
        sys.stdout.buffer.write(to_json({"event": "pager.started", "port": server.server_port}) + b"\n")
        sys.stdout.buffer.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            sys.exit(130)


if __name__ == "__main__":
    main()
