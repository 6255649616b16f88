"""The spans of ordinary calls as OTLP: what those of calls that are alike have in common is written once."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry.trace import SpanKind

from toolspan.telemetry import attributes as at
from toolspan.telemetry.otlp import spans as otlp
from toolspan.telemetry.otlp.pattern import Blank, Pattern, framed
from toolspan.telemetry.otlp.wire import pair, sized, text, varint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from toolspan.keys import Keys
    from toolspan.model import Origin, Run, ToolCall
    from toolspan.telemetry.otlp.outbox import Plain
    from toolspan.telemetry.otlp.pattern import Part
    from toolspan.telemetry.record import Record

Error: TypeAlias = tuple[str, str | None]
"""The `error.type` of a span, and the message of its status if that is one of an error."""

_Failing: TypeAlias = tuple[str, int | None]
"""The same with the length of the message."""

_PATTERNS_KEPT: Final = 1_024
_FIRST_ATTEMPT: Final = 1
_TRACE, _SPAN, _TIME, _MILLISECONDS = Blank("16s"), Blank("8s"), Blank("Q"), Blank("d")
_ERROR_CODE: Final = 2
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
        self._template = template = keys.reply_prefix.removesuffix(":")
        self._process = _named(f"process {keys.calls}", SpanKind.CONSUMER)
        self._processing = {
            at.DESTINATION: keys.calls,
            at.OPERATION_NAME: "process",
            at.OPERATION_TYPE: "process",
            at.GROUP: keys.group,
            at.CLIENT_ID: consumer,
        }
        self._send = _named(f"send {template}", SpanKind.PRODUCER)
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
        failing: _Failing | None,
        tool_failing: _Failing | None,
    ) -> Pattern:
        """Write all of the spans but their blanks; of what is a whole number here, that is the length."""
        common: list[Part] = [
            *_known(self._server),
            *_text(at.MESSAGE_ID, entry_id),
            *_text(at.CONVERSATION_ID, call_id),
            *_text(at.TOOL_CALL_ID, tool_call_id),
            *_known({at.TOOL_NAME: tool}),
        ]
        parts: list[Part] = []
        if executed:
            parts += _span(
                _named(f"execute_tool {tool}", SpanKind.INTERNAL),
                [*common, *_known({at.GEN_AI_OPERATION: "execute_tool"}), *_error_type(tool_failing)],
                parent=True,
                status=_status(tool_failing),
            )
        if replied:
            sent = {
                at.OPERATION_NAME: "send",
                at.OPERATION_TYPE: "send",
                at.DESTINATION: reply_to or self._template,
                at.DESTINATION_TEMPLATE: self._template,
                at.DESTINATION_TEMPORARY: True,
            }
            parts += _span(
                self._send,
                [*common, *_known(sent), *_number(at.BATCH_COUNT, count)],
                parent=True,
                status=_status(None),
            )
        about = {at.ATTEMPT: _FIRST_ATTEMPT, at.DELIVERY: delivery}
        parts += _span(
            self._process,
            [
                *common,
                *_known(self._processing),
                *_number(at.BODY_SIZE, size),
                *_known({**about, at.OUTCOME: outcome}),
                *_phases(phases),
                *_error_type(failing),
            ],
            parent=not root,
            links=() if root else _LINK,
            status=_status(failing),
            remote=not root,
        )
        return Pattern(parts)


def _failing(error: Error) -> tuple[_Failing, Sequence[bytes]]:
    """Tell what is said of an error, and the message to fill in if there is one."""
    kind, message = error
    if message is None:
        return (kind, None), ()
    written = text(message)
    return (kind, len(written)), (written,) if written else ()


@lru_cache(_PATTERNS_KEPT)
def _named(name: str, kind: SpanKind) -> bytes:
    return sized(otlp.NAME, text(name)) + otlp.KIND + varint(kind.value + 1)


def _span(
    named: bytes,
    attributes: Sequence[Part],
    *,
    parent: bool,
    status: Sequence[Part],
    links: Sequence[Part] = (),
    remote: bool = False,
) -> list[Part]:
    above = framed(otlp.PARENT, [_SPAN]) if parent else []
    flags = otlp.FLAGS + (otlp.REMOTE if remote else otlp.LOCAL)
    ids = [*framed(otlp.TRACE_ID, [_TRACE]), *framed(otlp.SPAN_ID, [_SPAN]), *above]
    times: list[Part] = [otlp.START, _TIME, otlp.END, _TIME]
    return framed(otlp.SPANS, [*ids, named, *times, *attributes, *links, *framed(otlp.STATUS, status), flags])


_LINKED: Final[list[Part]] = [
    *framed(otlp.TRACE_ID, [_TRACE]),
    *framed(otlp.SPAN_ID, [_SPAN]),
    otlp.LINK_FLAGS + otlp.REMOTE,
]
_LINK: Final = framed(otlp.LINKS, _LINKED)


def _status(failing: _Failing | None) -> list[Part]:
    # Without a message it is none of ours.
    if failing is None or failing[1] is None:
        return []
    message = framed(otlp.STATUS_MESSAGE, [Blank(f"{failing[1]}s")]) if failing[1] else []
    return [*message, otlp.STATUS_CODE + varint(_ERROR_CODE)]


def _error_type(failing: _Failing | None) -> list[Part]:
    return [] if failing is None else _known({at.ERROR_TYPE: failing[0]})


def _known(pairs: Mapping[str, Any]) -> list[Part]:
    return [sized(otlp.ATTRIBUTES, pair(name, value)) for name, value in pairs.items()]


def _text(name: str, size: int) -> list[Part]:
    """Write an attribute whose value is a text of so many bytes."""
    return _open(name, "?" * size, Blank(f"{size}s"))


def _number(name: str, size: int) -> list[Part]:
    """Write an attribute whose value is a whole number that takes so many bytes."""
    return _open(name, 1 << 7 * (size - 1), Blank(f"{size}s"))


def _phases(known: Sequence[bool]) -> list[Part]:
    """Write the attributes of those phases that are *known*."""
    names = [name for name, is_known in zip(at.PHASES_ON_SPANS, known, strict=True) if is_known]
    return [part for name in names for part in _open(name, 0.0, _MILLISECONDS)]


def _open(name: str, example: Any, blank: Blank) -> list[Part]:
    """Write an attribute whose value is a *blank*, as long as that of the *example*; it comes last."""
    written = sized(otlp.ATTRIBUTES, pair(name, example))
    return [written[: len(written) - blank.size], blank]
