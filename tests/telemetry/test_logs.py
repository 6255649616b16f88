"""What libraries say goes to our log: one line per outage of the collector, and one for the next."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricsData

from tests.support.ports import free_port
from toolspan.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is written to the log, in place of it; and the root logger left as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    logs.configure()
    try:
        with structlog.testing.capture_logs() as captured:
            yield captured
    finally:
        root.handlers[:], root.level = before
        structlog.reset_defaults()


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let time pass for the log."""
    passed = [0.0]
    real = time.monotonic
    monkeypatch.setattr(logs.time, "monotonic", lambda: real() + passed[0])  # type: ignore[attr-defined]

    def wait(seconds: float) -> None:
        passed[0] += seconds

    return wait


def _nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def test_an_outage_of_the_collector_is_one_line_and_the_next_another(lines: list[Any], wait: Any) -> None:
    exporter = OTLPSpanExporter(endpoint=_nowhere(), timeout=0.1)
    for _ in range(3):
        exporter.export([])
        wait(60)

    assert [line["logger"] for line in lines] == ["opentelemetry.exporter.otlp.proto.http.trace_exporter"]
    wait(logs.QUIET_SECONDS)
    exporter.export([])
    assert len(lines) == 2


def test_a_collector_that_is_slow_at_first_is_one_line_with_the_reason(lines: list[Any]) -> None:
    exporter = OTLPMetricExporter(endpoint=_nowhere(), timeout=2)
    exporter.export(MetricsData([]))

    assert len(lines) == 1
    assert "refused" in lines[0]["message"]


def test_a_signal_that_nobody_takes_hides_no_outage_of_another(lines: list[Any]) -> None:
    OTLPSpanExporter(endpoint=_nowhere(), timeout=0.1).export([])
    OTLPMetricExporter(endpoint=_nowhere(), timeout=0.1).export(MetricsData([]))

    assert {line["logger"].rsplit(".", 1)[1] for line in lines} == {"trace_exporter", "metric_exporter"}
    assert len(lines) == 2


def test_what_is_another_trouble_is_another_line(lines: list[Any]) -> None:
    logger = logging.getLogger("opentelemetry.sdk")
    for number in (1, 2, 1, 2):
        logger.warning("trouble %d", number)

    assert [line["message"] for line in lines] == ["trouble 1", "trouble 2"]


def test_what_is_remembered_of_troubles_is_bounded(lines: list[Any]) -> None:
    logger = logging.getLogger("opentelemetry.sdk")
    for number in range(5_000):
        logger.warning("trouble %d", number)

    [handler] = [found for found in logging.getLogger().handlers if isinstance(found, logs._Forward)]
    assert len(lines) == 5_000
    assert len(handler._last) <= 1_000
