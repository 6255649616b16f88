"""One empty export, to know whether telemetry arrives where it is sent."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from opentelemetry.sdk.metrics.export import MetricsData

from toolspan.telemetry import exporters

if TYPE_CHECKING:
    from toolspan.settings import OtlpSettings

Signal: TypeAlias = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)

_SECONDS: Final = 5.0
_EXPORTERS_LOG: Final = "opentelemetry.exporter"


class _Said(logging.Handler):
    """Keeps what the exporter says of its failures: it gives no other reason."""

    def __init__(self, thread: threading.Thread, told: threading.Event) -> None:
        super().__init__()
        self._thread = thread
        self._told = told
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Others may export at the same time.
        if record.thread == self._thread.ident:
            self.lines.append(record.getMessage())
            self._told.set()


def trial(otlp: OtlpSettings, signal: Signal) -> str | None:
    """Export nothing at all, for real; None if that was accepted, or the reason why not."""
    accepted: list[bool] = []
    failures: list[str] = []

    def export() -> None:
        try:
            accepted.append(_exported(otlp, signal).name == "SUCCESS")
        except Exception as exc:  # noqa: BLE001
            # Whatever the exporter's libraries raise is the reason.
            failures.append(f"{type(exc).__name__}: {exc}")
        finally:
            told.set()

    # It would try again for longer than anybody wants to wait: the first failure is enough.
    told = threading.Event()
    thread = threading.Thread(target=export, name="trial", daemon=True)
    said = _Said(thread, told)
    log = logging.getLogger(_EXPORTERS_LOG)
    log.addHandler(said)
    try:
        thread.start()
        told.wait(_SECONDS)
    finally:
        log.removeHandler(said)
    if accepted == [True]:
        return None
    reasons = failures or said.lines
    return reasons[-1] if reasons else f"no answer within {_SECONDS:g} s"


def _exported(otlp: OtlpSettings, signal: Signal) -> Any:
    if signal == "traces":
        return exporters.spans(otlp).export([])
    if signal == "metrics":
        return exporters.metrics(otlp).export(MetricsData(resource_metrics=[]))
    return exporters.logs(otlp).export([])
