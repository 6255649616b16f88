"""The spans of ordinary calls as OTLP: what those of calls that are alike have in common is written once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry.trace import SpanKind

from toolspan.telemetry import attributes as at
from toolspan.telemetry.otlp import layout
from toolspan.telemetry.otlp import spans as otlp
from toolspan.telemetry.otlp.pattern import Pattern
from toolspan.telemetry.otlp.wire import text, varint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from toolspan.keys import Keys
    from toolspan.model import Origin, Run, ToolCall
    from toolspan.telemetry.otlp.layout import Failing
    from toolspan.telemetry.otlp.outbox import Plain
    from toolspan.telemetry.otlp.pattern import Part
    from toolspan.telemetry.record import Record

Error: TypeAlias = tuple[str, str | None]
"""The `error.type` of a span, and the message of its status if that is one of an error."""

_PATTERNS_KEPT: Final = 1_024
_FIRST_ATTEMPT: Final = 1
_ALL: Final = (True,) * len(at.PHASES)
_FINE: Final = (None, ())


class Calls:
    """Writes the spans of a worker's calls, each of which is the first attempt of its call."""

    def __init__(
        self,
        resource: Resource,
        scope: InstrumentationScope,
        keys: Keys,
        consumer: str,
        server: Mapping[str, Any],
    ) -> None:
        self._resource = resource
        self._scope = scope
        self._server = server
        self._template = keys.reply_prefix.removesuffix(":")
        self._process = f"process {keys.calls}"
        self._processing = {
            at.DESTINATION: keys.calls,
            at.OPERATION_NAME: "process",
            at.OPERATION_TYPE: "process",
            at.GROUP: keys.group,
            at.CLIENT_ID: consumer,
        }
        self._sending = {
            at.OPERATION_NAME: "send",
            at.OPERATION_TYPE: "send",
            # Its place among the others: where replies go to differs.
            at.DESTINATION: "",
            at.DESTINATION_TEMPLATE: self._template,
            at.DESTINATION_TEMPORARY: True,
        }
        self._pattern = lru_cache(_PATTERNS_KEPT)(self._made)

    def part_of_request(self, written: Sequence[bytes]) -> Sequence[bytes]:
        """Give what was written as a part of a request, in pieces."""
        return otlp.group(self._resource, {self._scope: written})

    def write(  # noqa: PLR0917 - done for every call
        self,
        run: Run,
        call: ToolCall,
        record: Record,
        outcome: str,
        offset_ns: int,
        ended_ns: int,
        batch: int,
        errors: tuple[Error | None, Error | None],
    ) -> Plain:
        """Write the spans of *run*, of which *errors* are those of `process` and `execute_tool`.

        *offset_ns* turns its times into unix time.
        """
        delivery = run.delivery
        executed, replied = record.executed, record.replied
        process, tool, reply = record.ids
        trace, parent = bytes.fromhex(record.trace), bytes.fromhex(record.parent)
        entry_id, call_id = text(delivery.entry_id), text(call.id)
        tool_call_id = text(call.tool_call_id) if call.tool_call_id else call_id
        size, count = varint(sum(map(len, delivery.fields))), varint(batch)
        timings = run.told or run.timings
        phases = (timings.queue, timings.admission, timings.execute, timings.settle)
        known = _ALL if None not in phases else tuple(phase is not None for phase in phases)
        failing, message = _FINE if errors[0] is None else _failing(errors[0])
        tool_failing, tool_message = _FINE if errors[1] is None else _failing(errors[1])
        pattern = self._pattern(
            call.tool, call.reply_to, delivery.origin, outcome, executed, replied, not parent, len(entry_id),
            len(call_id), len(tool_call_id), len(size), len(count), known, failing, tool_failing,
        )  # fmt: skip
        end_ns = offset_ns + ended_ns
        blanks: list[bytes | int | float | None] = []
        if executed:
            began_ns = offset_ns + run.tool_began_ns if run.tool_began_ns else end_ns
            tool_ended_ns = offset_ns + run.tool_ended_ns if run.tool_ended_ns else end_ns
            blanks += (trace, tool, process, began_ns, tool_ended_ns, entry_id, call_id, tool_call_id, *tool_message)
        if replied:
            settling_ns = offset_ns + run.settling_ns if run.settling_ns else end_ns
            blanks += (trace, reply, process, settling_ns, end_ns, entry_id, call_id, tool_call_id, count)
        above, link = ((parent,), (trace, parent)) if parent else ((), ())
        read_ns = offset_ns + delivery.read_ns
        blanks += (trace, process, *above, read_ns, end_ns, entry_id, call_id, tool_call_id, size)
        blanks += phases if known is _ALL else [phase for phase in phases if phase is not None]
        blanks += (*link, *message)
        return 1 + executed + replied, pattern.filled(blanks)

    def _made(  # noqa: PLR0917 - called in one place
        self,
        tool: str,
        reply_to: str | None,
        delivery: Origin,
        outcome: str,
        executed: bool,
        replied: bool,
        root: bool,
        entry_id: int,
        call_id: int,
        tool_call_id: int,
        size: int,
        count: int,
        phases: tuple[bool, ...],
        failing: Failing | None,
        tool_failing: Failing | None,
    ) -> Pattern:
        """Write all of the spans but their blanks; of what is a whole number here, that is the length."""
        common = [
            *layout.known(self._server),
            *layout.text(at.MESSAGE_ID, entry_id),
            *layout.text(at.CONVERSATION_ID, call_id),
            *layout.text(at.TOOL_CALL_ID, tool_call_id),
            *layout.known({at.TOOL_NAME: tool}),
        ]
        parts: list[Part] = []
        if executed:
            about = [*common, *layout.known({at.GEN_AI_OPERATION: "execute_tool"})]
            parts += layout.span(f"execute_tool {tool}", SpanKind.INTERNAL, about, parent="ours", failing=tool_failing)
        if replied:
            sent = {**self._sending, at.DESTINATION: reply_to or self._template}
            about = [*common, *layout.known(sent), *layout.number(at.BATCH_COUNT, count)]
            parts += layout.span(f"send {self._template}", SpanKind.PRODUCER, about, parent="ours")
        about = [
            *common,
            *layout.known(self._processing),
            *layout.number(at.BODY_SIZE, size),
            *layout.known({at.ATTEMPT: _FIRST_ATTEMPT, at.DELIVERY: delivery, at.OUTCOME: outcome}),
            *layout.milliseconds([name for name, known in zip(at.PHASES_ON_SPANS, phases, strict=True) if known]),
        ]
        parts += layout.span(
            self._process, SpanKind.CONSUMER, about, parent="none" if root else "remote", failing=failing
        )
        return Pattern(parts)


def _failing(error: Error) -> tuple[Failing, Sequence[bytes]]:
    """Tell what is said of an error, and the message to fill in if there is one."""
    kind, message = error
    if message is None:
        return (kind, None), ()
    written = text(message)
    return (kind, len(written)), (written,) if written else ()
