"""Exceptional facts: each one a log line, and an OpenTelemetry log record with an event name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import get_current_span

from toolspan.telemetry import attributes as at
from toolspan.telemetry.lines import SEVERITY, kept_here
from toolspan.telemetry.text import clean, cleaned

if TYPE_CHECKING:
    from opentelemetry._logs import Logger
    from opentelemetry.context import Context

log = structlog.stdlib.get_logger("toolspan")


def health_started(host: str, port: int) -> None:
    """Say where health is asked for: a line and no more, for the parent of several workers has no probe."""
    log.info("health.started", host=host, port=port)


def child_ended(number: int, pid: int, *, how: str, seconds: float, again_in: float | None) -> None:
    """Say that a worker process died, after *seconds*, and when its parent starts the next one; None: not at all."""
    log.warning("child.ended", process=number, pid=pid, how=how, seconds=round(seconds, 3), started_again_in=again_in)


def redactor_failed(why: str) -> None:
    """Say once of a redactor that it does not work: what it was given is hidden as a whole."""
    log.error("redaction.failed", failure=why)


class Events:
    """Writes events where somebody listens, and lines in any case."""

    def __init__(self, logger: Logger | None) -> None:
        self._logger = logger

    def heard(self, level: int) -> bool:
        """Whether anybody hears of an event of this *level*: where it costs something to say what is told."""
        # Whatever else is asked of it, `log` looks up anew: that takes five times as long.
        return self._logger is not None or log.bind().is_enabled_for(level)

    def emit(
        self,
        line: str,
        *,
        event: str,
        level: str,
        context: Context | None = None,
        attributes: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Write *line*, a constant `noun.verb`, with *fields*; and *event* with *attributes* in the trace *context*."""
        with kept_here():
            getattr(log, level)(line, **trace_ids(context), **fields)
        if self._logger is not None:
            self._logger.emit(
                context=context,
                severity_number=SEVERITY[level],
                severity_text=level.upper(),
                body=line,
                attributes=cleaned(attributes or {}),
                event_name=event,
            )

    def exception(
        self,
        event: str,
        stack: str | None,
        message: str,
        *,
        kind: str,
        context: Context | None,
        about: dict[str, Any],
    ) -> None:
        """Write an exception as a log event, as the conventions want it; the line about it is another fact."""
        if self._logger is not None:
            attributes = {
                **about,
                at.EXCEPTION_TYPE: kind,
                at.EXCEPTION_MESSAGE: message,
                at.EXCEPTION_STACKTRACE: stack or None,
            }
            self._logger.emit(
                context=context,
                severity_number=SeverityNumber.ERROR,
                severity_text="ERROR",
                body=clean(message),
                attributes=cleaned(attributes),
                event_name=event,
            )


def trace_ids(context: Context | None) -> dict[str, str]:
    """Give trace and span id of *context*, for a log line; nothing if it has none."""
    if context is None:
        return {}
    span = get_current_span(context).get_span_context()
    return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}
