"""What is said of a run wherever something is told of it: attributes of events, fields of lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolspan.telemetry import attributes as at
from toolspan.telemetry.events import trace_ids

if TYPE_CHECKING:
    from toolspan.errors import MalformedEntryError
    from toolspan.model import Attempt, Run
    from toolspan.telemetry.spans import Spans


class Particulars:
    """Knows which worker we are, and the trace that a run belongs to."""

    def __init__(self, spans: Spans, consumer: str) -> None:
        self._spans = spans
        self._consumer = consumer

    def attributes(
        self, run: Run, malformed: MalformedEntryError | None = None, *, attempt: Attempt | None = None
    ) -> dict[str, Any]:
        """Give the attributes of an event; of another *attempt* than the run itself, if that is what it is about."""
        call_id, tool = _named(run, malformed)
        return {
            at.MESSAGE_ID: run.delivery.entry_id,
            at.CONVERSATION_ID: call_id,
            at.TOOL_NAME: tool,
            at.ATTEMPT: attempt.attempt if attempt else run.delivery.attempt,
            at.CLIENT_ID: attempt.consumer if attempt else self._consumer,
        }

    def fields(
        self, run: Run, malformed: MalformedEntryError | None = None, *, attempt: Attempt | None = None
    ) -> dict[str, Any]:
        """Give the same for a line that is told with an event, whose trace it gets."""
        call_id, tool = _named(run, malformed)
        return {
            "call_id": call_id,
            "entry_id": run.delivery.entry_id,
            "tool": tool,
            "attempt": attempt.attempt if attempt else run.delivery.attempt,
            "consumer": attempt.consumer if attempt else self._consumer,
        }

    def line(self, run: Run) -> dict[str, Any]:
        """Give the same for a line of its own."""
        return {**trace_ids(self._spans.context(run)), **self.fields(run)}


def _named(run: Run, malformed: MalformedEntryError | None) -> tuple[str | None, str]:
    """Give call id and tool, as far as they can be read."""
    if run.call is not None:
        return run.call.id, run.call.tool
    if malformed is not None:
        return malformed.call_id or None, malformed.tool or run.tool
    return None, run.tool
