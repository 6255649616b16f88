"""The spans of those who append: `call`, from append to the reply in hand, and `send`, the append itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import context as otel_context
from opentelemetry.trace import Link, SpanKind, StatusCode
from opentelemetry.trace import set_span_in_context as with_span

from toolspan.errors import RedisUnavailable
from toolspan.model import NO_TRACE, OTHER_TOOL, TraceFields
from toolspan.telemetry import attributes as at
from toolspan.telemetry import clock, propagation
from toolspan.telemetry.histograms import Sampled
from toolspan.telemetry.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from opentelemetry.trace import Span, Tracer

    from toolspan.keys import Keys
    from toolspan.model import DeadLetter, Reply
    from toolspan.telemetry.instruments import Instruments

_NS: Final = 1_000_000_000
_BEFORE_ANY_TOOL: Final = frozenset({"unknown_tool", "malformed", "cancelled", "deadline_exceeded", "quarantined"})
"""Ends that a call may have without a worker that knows its tool."""


class Calling:
    """One call as its caller sees it: entered before the append, left when there is nothing more to wait for."""

    def __init__(
        self,
        tracer: Tracer | None,
        instruments: Instruments,
        server: dict[str, Any],
        *,
        calls: str,
        tool: str,
        call_id: str,
        tool_call_id: str | None,
        parent: TraceFields | None,
        served: set[str],
        redact: Callable[[str], str],
    ) -> None:
        self.trace: TraceFields = parent or NO_TRACE
        """What travels in the entry: the context of the `send` span."""
        self.traceparent: str | None = self.trace.traceparent
        """The context of the `call` span, for whoever asked us."""
        self._tracer = tracer
        self._instruments = instruments
        self.calls = calls
        """The stream that the call goes to."""
        self._common = {
            at.SYSTEM: "redis",
            **server,
            at.CONVERSATION_ID: clean(call_id),
            at.TOOL_CALL_ID: clean(tool_call_id or call_id),
            at.TOOL_NAME: clean(tool),
            at.DESTINATION: calls,
        }
        self._parent = parent
        self._served = served
        self._redact = redact
        self._outcome = ""
        self._appended = False
        self._call: Span | None = None
        self._send: Span | None = None
        self._offset_ns = clock.offset_ns()
        self._began_ns = time.monotonic_ns()

    def __enter__(self) -> Self:
        if self._tracer is None:
            return self
        remote = propagation.span_context(self._parent) if self._parent else None
        base = propagation.context_of(remote) if remote else otel_context.get_current()
        self._call = self._tracer.start_span(
            f"call {self._common[at.TOOL_NAME]}",
            base,
            SpanKind.CLIENT,
            {**self._common, at.OPERATION_NAME: "call", at.OPERATION_TYPE: "send"},
            start_time=self._offset_ns + self._began_ns,
        )
        self._send = self._tracer.start_span(
            f"send {self.calls}",
            with_span(self._call, base),
            SpanKind.PRODUCER,
            {**self._common, at.OPERATION_NAME: "send", at.OPERATION_TYPE: "send"},
            start_time=self._now_ns(),
        )
        context = self._send.get_span_context()
        if context.is_valid:
            self.traceparent = propagation.write(self._call.get_span_context())
            state = context.trace_state.to_header() or None
            baggage = self._parent.baggage if self._parent else None
            self.trace = TraceFields(propagation.write(context), state, baggage or propagation.baggage_of(base))
        return self

    def sent(self, entry_id: str) -> None:
        """The append was acknowledged."""
        if self._appended:
            # After another call that was joined: how long that took says nothing about this append.
            self._instruments.sent.add("send", self.calls, "", "")
        else:
            self._count_sent("")
        self._taken(entry_id)

    def joined(self, entry_id: str) -> None:
        """Nothing was sent: *entry_id* is another caller's call under the same idempotency key."""
        self._taken(entry_id)

    def _taken(self, entry_id: str) -> None:
        # A detached call that joined another may be sent after all once its span has ended.
        if self._call is not None and self._send is not None and self._call.is_recording():
            self._call.set_attribute(at.MESSAGE_ID, entry_id)
            # It may be sent after all, where the call that was joined ended without being of use.
            if not self._appended:
                self._send.set_attribute(at.MESSAGE_ID, entry_id)
                self._send.end(self._now_ns())
        self._appended = True

    def answered(self, reply: Reply) -> None:
        """The reply is in hand."""
        failure = reply.failure
        self._outcome = failure.type if failure else "ok"
        if self._outcome not in _BEFORE_ANY_TOOL:
            self._served.add(self._common[at.TOOL_NAME])
        if self._call is None:
            return
        produced = propagation.span_context(TraceFields(reply.traceparent))
        if produced is not None:
            self._call.add_link(produced)
        received: dict[str, int | str] = {at.ATTEMPT: reply.attempt, at.CLIENT_ID: reply.consumer}
        self._call.add_event("reply.received", received, self._now_ns())
        if failure is not None:
            self._call.set_attribute(at.ERROR_TYPE, failure.type)
            self._call.set_status(StatusCode.ERROR, clean(self._redact(failure.message)))

    def failed(self, error_type: str) -> None:
        """There is no reply: `no_reply` in time, or `refused` before it was sent."""
        self._outcome = error_type

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        outcome = self._outcome or ("cancelled" if kind is not None and not issubclass(kind, Exception) else "")
        if kind is not None and not outcome:
            outcome = "no_reply" if self._appended else "refused"
        if outcome:
            # A name is counted by once a worker has served it: callers may ask for anything.
            tool = self._common[at.TOOL_NAME] if self._common[at.TOOL_NAME] in self._served else OTHER_TOOL
            self._instruments.call_duration.record(self._seconds(), tool, outcome, sampled=_sampled(self._call))
        if not self._appended and isinstance(error, RedisUnavailable):
            self._count_sent(type(error).__name__)
        if self._call is None or self._send is None:
            return
        if error is not None and self._outcome in {"", "no_reply", "refused"}:
            for span in (self._call,) if self._appended else (self._call, self._send):
                span.set_attribute(at.ERROR_TYPE, outcome)
                span.set_status(StatusCode.ERROR, clean(self._redact(str(error))))
        if not self._appended:
            self._send.end(self._now_ns())
        self._call.end(self._now_ns())

    def _now_ns(self) -> int:
        return self._offset_ns + time.monotonic_ns()

    def _seconds(self) -> float:
        return (time.monotonic_ns() - self._began_ns) / _NS

    def _count_sent(self, error_type: str) -> None:
        self._instruments.sent.add("send", self.calls, "", error_type)
        seconds = self._seconds()
        of = ("send", "send", self.calls, "", error_type)
        self._instruments.operation_duration.record(seconds, *of, sampled=_sampled(self._send))


def _sampled(span: Span | None) -> Sampled | None:
    """Name *span* as an example of what is measured; None if it is not exported."""
    if span is None:
        return None
    context = span.get_span_context()
    return Sampled(context.trace_id, context.span_id) if context.trace_flags.sampled else None


class Replaying:
    """A dead letter that is put back: a trace of its own, whose `send` links to where the letter came from."""

    def __init__(
        self,
        tracer: Tracer | None,
        keys: Keys,
        server: dict[str, Any],
        *,
        letter: DeadLetter,
        call_id: str,
        tool: str,
    ) -> None:
        self.trace: TraceFields = NO_TRACE
        """What travels in the new entry."""
        self.tool = tool
        """Which tool the letter calls."""
        self._tracer = tracer
        self._calls = keys.calls
        self._attributes = {
            at.SYSTEM: "redis",
            **server,
            at.DESTINATION: keys.calls,
            at.OPERATION_NAME: "send",
            at.OPERATION_TYPE: "send",
            at.CONVERSATION_ID: clean(call_id),
            at.TOOL_CALL_ID: clean(call_id),
            at.TOOL_NAME: clean(tool),
        }
        self._origin = propagation.span_context(TraceFields(letter.traceparent))
        self._send: Span | None = None
        self._offset_ns = clock.offset_ns()

    def __enter__(self) -> Self:
        if self._tracer is not None:
            links = [Link(self._origin)] if self._origin else []
            self._send = self._tracer.start_span(
                f"send {self._calls}",
                kind=SpanKind.PRODUCER,
                attributes=self._attributes,
                links=links,
                start_time=self._offset_ns + time.monotonic_ns(),
            )
            context = self._send.get_span_context()
            if context.is_valid:
                self.trace = TraceFields(propagation.write(context), context.trace_state.to_header() or None)
        return self

    def sent(self, entry_id: str) -> None:
        """The append was acknowledged."""
        if self._send is not None:
            self._send.set_attribute(at.MESSAGE_ID, entry_id)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._send is not None:
            if kind is not None:
                self._send.set_attribute(at.ERROR_TYPE, kind.__name__)
                self._send.set_status(StatusCode.ERROR, clean(str(error)))
            self._send.end(self._offset_ns + time.monotonic_ns())
