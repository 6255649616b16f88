"""Lines of the log as OpenTelemetry log records, while somebody who exports them is open.

What is an event is a log record of its own, with an event name: its line is not another one. Nor are the lines about
exporters: one that reports its own failure would feed itself.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from opentelemetry._logs import SeverityNumber
from opentelemetry.trace import SpanContext, TraceFlags

from toolspan.telemetry import attributes as at
from toolspan.telemetry import propagation
from toolspan.telemetry.text import clean, cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context

SEVERITY: Final = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}

ATTRIBUTES: Final = {
    "call_id": at.CONVERSATION_ID,
    "entry_id": at.MESSAGE_ID,
    "tool": at.TOOL_NAME,
    "attempt": at.ATTEMPT,
    "consumer": at.CLIENT_ID,
    "exception": at.EXCEPTION_STACKTRACE,
}
"""Fields of lines that have another name elsewhere; all others are attributes by their own."""

_SAID_OTHERWISE: Final = frozenset({"event", "level", "timestamp", "trace_id", "span_id"})
_PLAIN: Final = (str, bool, int, float)
_kept_here: ContextVar[bool] = ContextVar("toolspan_line_is_kept_here", default=False)


@contextmanager
def kept_here() -> Iterator[None]:
    """Have the lines that are written meanwhile not exported."""
    token = _kept_here.set(True)
    try:
        yield
    finally:
        _kept_here.reset(token)


class Lines:
    """A structlog processor, which exports by the provider that was lent last and not taken back."""

    def __init__(self) -> None:
        self._lent: list[LoggerProvider] = []
        self._lock = threading.Lock()

    def lend(self, provider: Any) -> None:
        """Export by *provider* from now on."""
        with self._lock:
            self._lent = [*self._lent, provider]

    def take_back(self, provider: Any) -> None:
        """Export by *provider* no more."""
        with self._lock:
            self._lent = [other for other in self._lent if other is not provider]

    def __call__(self, _: Any, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Export *line*, and pass it on."""
        lent = self._lent
        if lent and not _kept_here.get():
            level = str(line.get("level", "info"))
            fields = {ATTRIBUTES.get(name, name): _plain(line[name]) for name in line if name not in _SAID_OTHERWISE}
            lent[-1].get_logger("toolspan").emit(
                timestamp=time.time_ns(),
                context=_context(line),
                severity_number=SEVERITY.get(level, SeverityNumber.INFO),
                severity_text=level.upper(),
                body=clean(str(line.get("event", ""))),
                attributes=cleaned(fields),
            )
        return line


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, _PLAIN) else json.dumps(value, default=str)


def _context(line: MutableMapping[str, Any]) -> Context | None:
    trace, span = line.get("trace_id"), line.get("span_id")
    if not (isinstance(trace, str) and isinstance(span, str)):
        return None
    flags = TraceFlags(TraceFlags.SAMPLED)
    return propagation.context_of(SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=flags))


LINES: Final = Lines()
"""That of this process."""
