"""What log lines look like: one line, one fact; JSON when nobody sits before it."""

from __future__ import annotations

import logging
import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import structlog
from opentelemetry.trace import get_current_span

from toolspan.redaction import Redactor
from toolspan.telemetry.lines import LINES, kept_here
from toolspan.telemetry.outages import told

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from typing import TextIO

Level = Literal["debug", "info", "warning", "error"]
LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error")

QUIET_SECONDS: Final = 120.0
"""After how much silence trouble of a library is new trouble: more than from one export to the next, with all tries.

An outage that goes on is met by every export of metrics, at least; one that is over, by none."""

_TROUBLES_KEPT: Final = 1_000
_EXPORTERS: Final = ("opentelemetry.", "urllib3.")
_COLLECTOR: Final = re.compile(r"host='([^']+)', port=(\d+)| to (\S+?:\d+)")
_OUTAGE: Final = ("Transient error ", "Failed to export ")
"""What the exporters of the SDK say, over HTTP and gRPC alike, when they reach nobody."""

# Without the local variables, for the arguments of calls are among them.
_JSON_TRACEBACKS: Final = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


class _Stderr:
    """Whatever stderr is when a line is written: programs put something else there, and tests do for a while."""

    def write(self, text: str) -> int:
        """Write *text*."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Have it written now."""
        sys.stderr.flush()


_STDERR: Final = cast("TextIO", _Stderr())


def configure(
    level: Level = "info", *, json: bool | None = None, outages: bool = True, redact: Redactor | None = None
) -> None:
    """Write lines from *level* up to stderr; as JSON if *json*, or if it is None and stderr is no terminal.

    Lines about *outages* may be left out, where a command says of them what it has to: those of Redis, and what
    exporters have to say; `exporters_in_trouble` tells whether they had to say anything. What *redact* hides is on no
    line.
    """
    redact = redact or Redactor()
    redact.failed = _redactor_failed
    as_json = not sys.stderr.isatty() if json is None else json
    structlog.configure(
        processors=[
            *([] if outages else [_not_of_outages]),
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _current_trace,
            _JSON_TRACEBACKS if as_json else structlog.processors.format_exc_info,
            partial(_redacted, redact),
            LINES,
            structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_STDERR),
        cache_logger_on_first_use=True,
    )
    # What libraries have to say goes the same way; what the exporters say, no further than to us.
    logging.basicConfig(level=logging.WARNING, handlers=[_Forward(exporters=outages)], force=True)


def _not_of_outages(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event["event"] in {"redis.down", "redis.up"}:
        raise structlog.DropEvent
    return event


def exporters_in_trouble() -> bool:
    """Whether an exporter of telemetry has complained since `configure`."""
    return any(one.troubled for one in logging.getLogger().handlers if isinstance(one, _Forward))


def leave_stdout_alone() -> None:
    """Write lines from `info` up to stderr, where the program has not said what it wants: its stdout is not ours."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[*structlog.get_config()["processors"][:-1], _STACKS, partial(_redacted, Redactor()), _PLAIN],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            logger_factory=structlog.WriteLoggerFactory(file=_STDERR),
        )


_STACKS: Final = structlog.processors.format_exc_info
_PLAIN: Final = structlog.dev.ConsoleRenderer()


def _redacted(redact: Redactor, _: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take secrets out of a line; what ours are called is constant, and holds none."""
    for name, value in line.items():
        if name not in _OURS and not (name == "event" and _CONSTANT.fullmatch(str(value))):
            line[name] = redact.within(value if isinstance(value, _KNOWN) else str(value))
    return line


def _redactor_failed(why: str) -> None:
    structlog.get_logger("toolspan").error("redaction.failed", failure=why)


_OURS: Final = frozenset({"level", "timestamp", "trace_id", "span_id", "failure"})
_CONSTANT: Final = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_KNOWN: Final = (str, int, float, bool, type(None), dict, list, tuple)


def _current_trace(_: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the ids of the current span on a line that does not say another."""
    if "trace_id" not in line:
        context = get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = f"{context.trace_id:032x}"
            line["span_id"] = f"{context.span_id:016x}"
    return line


class _Forward(logging.Handler):
    """Hands the records of other libraries to structlog; of what exporters repeat, only the first.

    What they said again within `QUIET_SECONDS` is the same trouble that goes on; what comes after a silence is new.
    """

    def __init__(self, *, exporters: bool = True) -> None:
        super().__init__()
        self.troubled = False
        self._exporters = exporters
        self._last: dict[str, float] = {}
        self._collectors: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        message = _said(record)
        if record.name.startswith(_EXPORTERS):
            self.troubled = True
            if told(message):
                return
            if not self._exporters or self._goes_on(self._trouble(record, message)):
                return
            with kept_here():
                self._tell(record, message)
        else:
            self._tell(record, message)

    def _tell(self, record: logging.LogRecord, message: str) -> None:
        logger = structlog.get_logger("toolspan")
        (logger.error if record.levelno >= logging.ERROR else logger.warning)(
            "library.warned",
            logger=record.name,
            message=message,
            **({"exc_info": record.exc_info} if record.exc_info else {}),
        )

    def _trouble(self, record: logging.LogRecord, message: str) -> str:
        """Name what is wrong: records of one name tell of the same.

        An exporter whose collector is away says of each batch that it tries again, why, and in the end that it failed:
        that is one outage, and the same one for all the signals that go there. Only why says where that is.
        """
        if not str(record.msg).startswith(_OUTAGE):
            return f"{record.name}:{message}"
        found = _COLLECTOR.search(message)
        if found:
            self._collectors[record.name] = ":".join(filter(None, found.groups()))
        return f"outage of {self._collectors.get(record.name, record.name)}"

    def _goes_on(self, trouble: str) -> bool:
        now = time.monotonic()
        known = now - self._last.pop(trouble, float("-inf")) < QUIET_SECONDS
        # The oldest come first, for what is said again moves to the end.
        self._last[trouble] = now
        while now - self._last[next(iter(self._last))] >= QUIET_SECONDS or len(self._last) > _TROUBLES_KEPT:
            del self._last[next(iter(self._last))]
        return known


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001
        # Arguments that do not fit are the mistake of whoever logs, who shall not hear of it by an exception.
        return str(record.msg)
