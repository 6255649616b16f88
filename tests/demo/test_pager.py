"""Where the local stack's alerts end."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ALERT = {
    "status": "firing",
    "labels": {"alertname": "ToolspanNoLiveWorkers", "severity": "critical"},
    "annotations": {"summary": "No worker lives", "runbook_url": "http://docs/runbooks/ToolspanNoLiveWorkers"},
    "startsAt": "2026-11-26T03:00:00Z",
}


class Pager:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._lines = process.stdout
        self._port = self.line()["port"]

    def line(self) -> dict[str, Any]:
        line: dict[str, Any] = json.loads(self._lines.readline())
        return line

    def post(self, path: str, body: bytes) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", body)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as exc:
            return exc.code


@pytest.fixture
def pager() -> Iterator[Pager]:
    command = [sys.executable, "-m", "toolspan.demo.pager", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield Pager(process)
        finally:
            process.kill()


def test_each_alert_of_a_notification_is_one_line_with_what_to_do(pager: Pager) -> None:
    assert pager.post("/page", json.dumps({"alerts": [ALERT, {**ALERT, "status": "resolved"}]}).encode()) == 200

    first, second = pager.line(), pager.line()
    assert (first["event"], first["receiver"], first["alert"]) == ("alert.firing", "page", "ToolspanNoLiveWorkers")
    assert first["runbook"].endswith("/runbooks/ToolspanNoLiveWorkers")
    assert second["event"] == "alert.resolved"


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"alerts": [1]}', b'{"alerts": [{}]}', b"\xff"])
def test_what_is_no_notification_is_refused_and_the_next_one_is_taken(pager: Pager, body: bytes) -> None:
    assert pager.post("/page", body) == 400

    assert pager.post("/page", json.dumps({"alerts": [ALERT]}).encode()) == 200
    assert pager.line()["event"] == "alert.firing"
