"""Says once that a collector takes nothing, and once that it does again."""

from __future__ import annotations

import threading
import time
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log: Final = structlog.get_logger("toolspan")

_here: Final = threading.local()
_ongoing: Final[set[Any]] = set()


class Outage:
    """What is known of one collector: what goes there, and since when it fails."""

    def __init__(self, collector: str) -> None:
        self._collector = collector
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._since = 0.0
        self._over = 0.0
        self._failures = 0

    def watch(self, exporter: Any, signal: str) -> None:
        """Look at each export of *exporter* from now on."""
        export: Callable[..., Any] = exporter.export

        @wraps(export)
        def watched(*arguments: Any, **named: Any) -> Any:
            _here.said = []
            began = time.monotonic()
            try:
                result = export(*arguments, **named)
            finally:
                said, _here.said = _here.said, None
            if result.name == "SUCCESS":
                self._succeeded(signal)
            else:
                self._failed(signal, said, began)
            return result

        exporter.export = watched

    def _failed(self, signal: str, said: list[str], began: float) -> None:
        with self._lock:
            if not self._failures and began < self._over:
                # It was under way when the collector came back: the end of what has been told, and no new outage.
                return
            self._failures += 1
            self._failing.add(signal)
            first = self._failures == 1
            if first:
                self._since = time.monotonic()
                _ongoing.add(self)
        if first:
            log.warning(
                "telemetry.down",
                collector=self._collector,
                signal=signal,
                why=said[0] if said else "it refused an export",
                meaning="calls go on; what the queues cannot hold meanwhile is lost, and counted by otel.sdk.* metrics",
            )

    def _succeeded(self, signal: str) -> None:
        if not self._failing:
            return
        with self._lock:
            self._failing.discard(signal)
            failures, over = self._failures, not self._failing
            if over:
                self._failures = 0
                self._over = time.monotonic()
                _ongoing.discard(self)
        if over:
            seconds = round(time.monotonic() - self._since, 3)
            log.info("telemetry.up", collector=self._collector, seconds=seconds, failures=failures)


def told(message: str) -> bool:
    """Whether *message* of a library belongs to an outage, which is one line and has been or will be written."""
    said: list[str] | None = getattr(_here, "said", None)
    if said is not None:
        said.append(message)
        return True
    return bool(_ongoing) and message.startswith("Queue full")
