"""Log lines: one line, one fact; JSON when nobody sits before it."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from toolspan.keys import Keys
from toolspan.telemetry.logs import LEVELS, Level, configure, leave_stdout_alone
from toolspan.testing import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolspan.telemetry.catalog import Step

TRACE = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Stderr:
    """What is written to stderr, before a terminal or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._written = io.StringIO()

    def configure(self, level: Level = "info", *, terminal: bool = False) -> None:
        self._written = Terminal() if terminal else io.StringIO()
        self._monkeypatch.setattr(sys, "stderr", self._written)
        configure(level)

    @property
    def text(self) -> str:
        return self._written.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stderr]:
    # Those of the modules keep what was configured when they were first used.
    for module in ("events", "probe"):
        monkeypatch.setattr(f"toolspan.telemetry.{module}.log", structlog.stdlib.get_logger("toolspan"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Stderr(monkeypatch)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_program_that_has_not_said_what_it_wants_has_its_stdout_for_itself(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()
    leave_stdout_alone()
    log().debug("call.settled")
    log().info("worker.started")
    structlog.reset_defaults()

    told = capsys.readouterr()
    assert told.out == ""
    assert "worker.started" in told.err
    assert "call.settled" not in told.err


def test_lines_go_to_what_stderr_is_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever captures it for a while closes what he has put there."""
    structlog.reset_defaults()
    with monkeypatch.context() as meanwhile:
        before = io.StringIO()
        meanwhile.setattr("sys.stderr", before)
        leave_stdout_alone()
        logger = log().bind()
        logger.info("worker.started")
        before.close()
    after = io.StringIO()
    monkeypatch.setattr("sys.stderr", after)
    logger.info("worker.stopped")
    structlog.reset_defaults()

    assert "worker.stopped" in after.getvalue()


def test_what_a_program_has_configured_is_left_as_it_is() -> None:
    with structlog.testing.capture_logs() as lines:
        structlog.configure()
        leave_stdout_alone()
        is_ours = isinstance(structlog.get_config()["logger_factory"], structlog.WriteLoggerFactory)
    structlog.reset_defaults()

    assert not is_ours
    assert lines == []


def log() -> Any:
    return structlog.get_logger("toolspan")


def fails_with(secret: str) -> None:
    password = secret * 2
    raise ConnectionError(len(password))


def test_off_a_terminal_each_line_is_one_json_object(stderr: Stderr) -> None:
    stderr.configure()
    log().info("worker.started", consumer="w-1", tools=["a\nb"])
    (line,) = stderr.lines

    assert (line["event"], line["level"], line["consumer"], line["tools"]) == (
        "worker.started",
        "info",
        "w-1",
        ["a\nb"],
    )
    assert line["timestamp"].endswith("Z")


def test_on_a_terminal_a_line_is_for_people(stderr: Stderr) -> None:
    stderr.configure(terminal=True)
    log().info("worker.started", consumer="w-1")

    assert "worker.started" in stderr.text
    assert not stderr.text.startswith("{")


@pytest.mark.parametrize("level", LEVELS)
def test_lines_below_the_level_are_not_written(stderr: Stderr, level: Level) -> None:
    stderr.configure(level)
    for name in LEVELS:
        getattr(log(), name)(f"line.{name}")

    assert stderr.events == [f"line.{name}" for name in LEVELS[LEVELS.index(level) :]]


def test_a_line_carries_the_ids_of_the_current_span(stderr: Stderr) -> None:
    stderr.configure()
    token = otel_context.attach(set_span_in_context(NonRecordingSpan(TRACE)))
    log().info("inside.span")
    log().info("about.another", trace_id="theirs")
    otel_context.detach(token)
    log().info("outside.span")
    inside, about_another, outside = stderr.lines

    assert (inside["trace_id"], inside["span_id"]) == (f"{0xABC:032x}", f"{0xDEF:016x}")
    assert about_another["trace_id"] == "theirs"
    assert "span_id" not in about_another
    assert "trace_id" not in outside


@pytest.mark.parametrize("terminal", [False, True])
def test_a_stack_is_written_without_the_values_of_variables(stderr: Stderr, *, terminal: bool) -> None:
    stderr.configure(terminal=terminal)
    try:
        fails_with("hunter")
    except ConnectionError as exc:
        log().error("toolspan.failed", exc_info=exc)

    assert "fails_with" in stderr.text
    assert "ConnectionError" in stderr.text
    assert "hunterhunter" not in stderr.text


def test_what_the_probe_reports_is_a_line_with_the_same_words(stderr: Stderr) -> None:
    stderr.configure()
    Recorder(Keys()).probe.outage("read", ConnectionError("away"))
    (line,) = stderr.lines

    assert (line["event"], line["level"], line["step"], line["error"]) == ("redis.down", "error", "read", "away")


def test_an_outage_is_one_line_however_often_it_is_met_and_one_when_it_ends(stderr: Stderr) -> None:
    stderr.configure()
    probe = Recorder(Keys()).probe
    step: Step
    for _ in range(2):
        for step in ("read", "keep", "read"):
            probe.outage(step, ConnectionError("away"))
        for step in ("read", "keep", "keep"):
            probe.recovered(step)

    assert stderr.events == ["redis.down", "redis.down", "redis.up", "redis.up"] * 2


def test_what_a_library_warns_of_is_a_line_of_ours(stderr: Stderr) -> None:
    stderr.configure()
    logging.getLogger("some.library").warning("disk %s is full", "sda")
    logging.getLogger("some.library").info("not this")
    (line,) = stderr.lines

    assert (line["event"], line["level"], line["logger"], line["message"]) == (
        "library.warned",
        "warning",
        "some.library",
        "disk sda is full",
    )


def test_what_a_library_raised_keeps_its_stack(stderr: Stderr) -> None:
    stderr.configure()
    try:
        fails_with("hunter")
    except ConnectionError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")
    (line,) = stderr.lines

    assert line["level"] == "error"
    assert "fails_with" in json.dumps(line["exception"])


def test_what_a_tool_warns_of_twice_is_said_twice(stderr: Stderr) -> None:
    stderr.configure()
    for customer in (1, 1, 2):
        logging.getLogger("my_tools").warning("customer %s has no address", customer)

    assert [line["message"][:10] for line in stderr.lines] == ["customer 1", "customer 1", "customer 2"]


def test_a_record_that_cannot_be_written_harms_nobody(stderr: Stderr) -> None:
    stderr.configure()
    logging.getLogger("some.library").warning("%d of %d", "one")  # noqa: PLE1206

    assert [line["message"] for line in stderr.lines] == ["%d of %d"]


def test_no_record_of_a_library_goes_to_otlp(stderr: Stderr) -> None:
    stderr.configure()
    recorder = Recorder(Keys())
    logging.getLogger("opentelemetry.exporter").error("no answer")

    assert recorder.events == []
