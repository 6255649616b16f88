"""What log lines look like: one line, one fact; JSON when nobody sits before it."""

from __future__ import annotations

import logging
import math
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

import structlog
from opentelemetry.trace import get_current_span

if TYPE_CHECKING:
    from collections.abc import MutableMapping

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

# They say the same again and again while a collector is away.
_EXPORTERS: Final = ("opentelemetry.", "urllib3.")
_OUTAGE_OVER: Final = 300.0
"""Seconds of silence after which an exporter that complains speaks of another outage."""
_MOST_REPEATED: Final = 100

# Without the local variables, for the arguments of calls are among them.
_JSON_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure(level: Level = "info", *, json: bool | None = None) -> None:
    """Write lines from *level* up to stderr; as JSON if *json*, or if it is None and stderr is no terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _current_trace,
            _JSON_TRACEBACKS if as_json else structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # What libraries have to say goes the same way, and nothing of it goes to OTLP: an exporter that reports its own
    # failure would feed itself.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward()], force=True)


def _current_trace(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the ids of the current span on a line that does not say another."""
    if "trace_id" not in line:
        context = get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
            line["span_id"] = f"{context.span_id:016x}"
    return line


class _Forward(logging.Handler):
    """Hands the records of other libraries to structlog; what an exporter repeats, only the first time."""

    def __init__(self) -> None:
        super().__init__()
        self._repeated: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        if self._repeats(record):
            return
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001
            # Arguments that do not fit are the mistake of whoever logs, who shall not hear of it by an exception.
            message = str(record.msg)
        logger = structlog.get_logger("toolspan")
        (logger.error if record.levelno >= logging.ERROR else logger.warning)(
            "library.warned",
            logger=record.name,
            message=message,
            **({"exc_info": record.exc_info} if record.exc_info else {}),
        )

    def _repeats(self, record: logging.LogRecord) -> bool:
        """Whether an exporter says what it has just said: one line per outage, though it tries every few seconds."""
        if not record.name.startswith(_EXPORTERS):
            return False
        # Each signal has an exporter of its own, and they take turns.
        key, now = (record.name, str(record.msg)), monotonic()
        last = self._repeated.get(key, -math.inf)
        if len(self._repeated) > _MOST_REPEATED:
            self._repeated.clear()
        self._repeated[key] = now
        return now - last < _OUTAGE_OVER
