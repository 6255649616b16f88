"""Lines of the log are exported where somebody listens: each once, in its trace, and none about exporting."""

from __future__ import annotations

import json
import logging
import signal
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from tests.support.eventually import eventually
from tests.telemetry.collector import plain
from toolspan.telemetry import logs
from toolspan.telemetry.lines import LINES
from toolspan.telemetry.setup import start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from tests.telemetry.collector import Collector
    from toolspan import Settings

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


def _lines(collector: Collector) -> list[tuple[dict[str, Any], Any]]:
    """What was exported without an event name."""
    return collector.records("")


async def test_every_line_of_a_worker_is_exported_once_as_a_line_or_as_an_event(
    plane: Plane, workers: Workers, collector: Collector, tmp_path: Path
) -> None:
    worker = await workers.start("--log-level", "info", OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint)
    await plane.add("v", "1", "id", "f", "tool", "fails", "args", "{}", "traceparent", PARENT)
    args = f'{{"path": "{tmp_path / "runs"}", "good_from": 9}}'
    await plane.add(
        "v", "1", "id", "c", "tool", "flaky", "args", args, "traceparent", PARENT, "reply_to", plane.reply_to
    )
    reply = await eventually(lambda: plane.reply("c"), because="it has failed three times")
    await eventually(plane.dead_letters, because="the other is a dead letter")
    worker.signal(signal.SIGTERM)
    assert await worker.exited() == 0
    written = [json.loads(line) for line in worker.log.read_text().splitlines()]
    exported = [record for _, record in collector.every_record() if "exception" not in record.event_name]

    assert (reply.failure.type, reply.attempt) == ("tool_error", 3)
    assert sorted(record.body.string_value for record in exported) == sorted(line["event"] for line in written)
    retries = [record for record in exported if record.body.string_value == "attempt.retried"]
    assert [plain(record.attributes)["toolspan.attempt"] for record in retries] == [1, 2]
    for record, line in zip(retries, [line for line in written if line["event"] == "attempt.retried"], strict=True):
        told = plain(record.attributes)
        assert (record.trace_id.hex(), record.span_id.hex()) == (TRACE_ID, line["span_id"])
        assert (told["messaging.message.conversation_id"], told["gen_ai.tool.name"]) == ("c", "flaky")
        assert (told["messaging.client.id"], told["delay_ms"]) == (line["consumer"], line["delay_ms"])
        assert record.severity_text == "INFO"
        assert record.event_name == ""
    # A dead letter is an event: its line is not another record.
    assert [record.event_name for record in exported if record.body.string_value == "delivery.quarantined"] == [
        "toolspan.dead_letter"
    ]
    assert {resource["service.name"] for resource, _ in collector.every_record()} == {"toolspan-worker"}


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The file that lines go to beside their export; the log of the test process left as it was."""
    # Those of the modules keep what was configured when they were first used.
    for module in ("events", "probe"):
        monkeypatch.setattr(f"toolspan.telemetry.{module}.log", structlog.stdlib.get_logger("toolspan"))
    root = logging.getLogger()
    before = root.handlers[:], root.level
    path = tmp_path / "stderr"
    with path.open("w", buffering=1) as file:
        # What captures stderr for the tests puts its own there once more when the test begins.
        monkeypatch.setattr(logs, "_STDERR", file)
        logs.configure("info", json=True)
        yield path
        root.handlers[:], root.level = before
        structlog.reset_defaults()


def test_what_exporters_say_of_themselves_is_not_exported_and_what_others_say_is(
    settings: Settings, collector: Collector, configured: Path
) -> None:
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    logging.getLogger("opentelemetry.sdk._logs").error("Failed to export logs batch")
    logging.getLogger("urllib3.connectionpool").warning("Retrying")
    logging.getLogger("somebody.else").warning("token=%s is old", "abcdefghijklmnop0123456789")
    telemetry.shutdown()
    told = [plain(record.attributes)["logger"] for _, record in _lines(collector)]

    assert len(configured.read_text().splitlines()) == 3
    assert told == ["somebody.else"]
    # It is exported as it is written: without secrets.
    [(_, record)] = _lines(collector)
    assert "abcdefghijklmnop" not in str(record)


def test_whatever_a_line_holds_it_is_exported(settings: Settings, collector: Collector, configured: Path) -> None:
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    log = structlog.get_logger()
    try:
        raise ValueError("half \ud800")  # noqa: TRY301
    except ValueError:
        log.exception("odd.happened", nested={"a": [object()]}, half="\ud800", nothing=None, whole=True)
    telemetry.shutdown()
    [(_, record)] = _lines(collector)
    told = plain(record.attributes)

    assert configured.read_text().count("odd.happened") == 1
    assert (record.body.string_value, record.severity_text) == ("odd.happened", "ERROR")
    assert (told["half"], told["whole"]) == ("?", True)
    assert "ValueError" in told["exception.stacktrace"]
    assert json.loads(told["nested"])["a"]
    assert "nothing" not in told


def test_a_provider_that_the_program_has_set_up_gets_the_lines(
    settings: Settings, collector: Collector, configured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    own = LoggerProvider(shutdown_on_exit=False)
    own.add_log_record_processor(SimpleLogRecordProcessor(kept))
    monkeypatch.setattr(_logs, "get_logger_provider", lambda: own)
    telemetry = start("worker", keys=settings.keys, instance_id="w")
    structlog.get_logger().info("first.said")
    telemetry.shutdown()
    structlog.get_logger().info("late.said")
    own.shutdown()

    assert len(configured.read_text().splitlines()) == 2
    assert [one.log_record.body for one in kept.get_finished_logs()] == ["first.said"]
    assert collector.every_record() == []


def test_nothing_is_exported_once_telemetry_has_ended(
    settings: Settings, collector: Collector, configured: Path
) -> None:
    start("worker", keys=settings.keys, instance_id="w").shutdown()
    structlog.get_logger().info("late.said")

    assert "late.said" in configured.read_text()
    assert _lines(collector) == []
    assert LINES._lent == []
