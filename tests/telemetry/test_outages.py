"""When a collector counts as down, and as up again."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from toolspan.telemetry.outages import Outage


class Exporter:
    """Gives what it is told to, once it is let."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def export(self, result: str) -> Any:
        self.begun.set()
        assert self.go_on.wait(10)
        return SimpleNamespace(name=result)


def test_an_export_that_was_under_way_when_the_collector_came_back_is_no_new_outage() -> None:
    outage, metrics, traces = Outage("http://collector"), Exporter(), Exporter()
    outage.watch(metrics, "metrics")
    outage.watch(traces, "traces")
    with capture_logs() as lines:
        metrics.export("FAILURE")
        traces.begun.clear()
        traces.go_on.clear()
        late = threading.Thread(target=traces.export, args=("FAILURE",))
        late.start()
        assert traces.begun.wait(10)
        metrics.export("SUCCESS")
        traces.go_on.set()
        late.join(10)
        before = [line["event"] for line in lines]
        traces.export("FAILURE")
        traces.export("SUCCESS")

    assert before == ["telemetry.down", "telemetry.up"]
    assert [(line["event"], line.get("signal")) for line in lines[2:]] == [
        ("telemetry.down", "traces"), ("telemetry.up", None),
    ]  # fmt: skip
