"""The spans of ordinary calls as OTLP, from plain values: what they have in common was written once, before."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from opentelemetry.trace import SpanKind

from toolspan.telemetry import attributes as at
from toolspan.telemetry.otlp import spans as otlp
from toolspan.telemetry.otlp.wire import DOUBLE, any_value, key, pair, sized, text, varint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from toolspan.keys import Keys

Error: TypeAlias = tuple[str, str | None]
"""The `error.type` of a span, and the message of its status if that is one of an error."""

Plain: TypeAlias = tuple[
    int,  # how many spans these are
    bytes,  # trace id
    bytes,  # the parent's span id, empty without one
    bytes,  # of `process`
    bytes,  # of `execute_tool`, empty without one
    bytes,  # of `send` of the reply, empty without one
    int,  # unix nanoseconds: when the entry was read,
    int,  # when the tool began,
    int,  # when it ended,
    int,  # when the outcome was known,
    int,  # and when it was written
    str,  # entry id
    str,  # call id
    str,  # the model's id of the call, or the call id again
    str,  # the tool's name, as the call has it
    str,  # the reply stream
    int,  # bytes of the entry
    str,  # how the delivery came
    str,  # outcome
    tuple[float | None, ...],  # milliseconds of each phase, in the order of `attributes.PHASES`
    int,  # how many replies were written with this one
    Error | None,  # of `process`
    Error | None,  # of `execute_tool`
]
"""One attempt that was the first of its call, as `Calls` takes it. A plain tuple is a tenth of a named one to make."""

_FIRST_ATTEMPT: Final = 1
_TRACE: Final = sized(otlp.TRACE_ID, bytes(16))[:-16]
_SPAN: Final = sized(otlp.SPAN_ID, bytes(8))[:-8]
_PARENT: Final = sized(otlp.PARENT, bytes(8))[:-8]
_TIMES: Final = Struct("<cQcQ").pack
_NO_STATUS: Final = sized(otlp.STATUS, b"")
_WHOLE_LINK: Final = sized(otlp.LINKS, otlp.link(bytes(16), bytes(8), remote=True))
_LINK, _LINKED, _LINKED_REMOTE = _WHOLE_LINK[:4], _WHOLE_LINK[20:22], _WHOLE_LINK[30:]
"""What stands before, between and behind the ids of a link."""
_REMOTE: Final = otlp.FLAGS + otlp.REMOTE
_LOCAL: Final = otlp.FLAGS + otlp.LOCAL


class _Text:
    """An attribute whose value is some other text in each call. What stands before that depends on its length only."""

    def __init__(self, name: str) -> None:
        self._key = key(name)
        self._heads = [self._head(size) for size in range(128)]

    def __call__(self, words: str) -> bytes:
        value = text(words)
        size = len(value)
        return (self._heads[size] if size < len(self._heads) else self._head(size)) + value

    def _head(self, size: int) -> bytes:
        value = any_value("?" * size)
        whole = sized(otlp.ATTRIBUTES, self._key + sized(b"", value))
        return whole[: len(whole) - size]


class _Phases:
    """The attributes of the phases, nearly always all of them."""

    def __init__(self) -> None:
        self._heads = [attribute(f"{at.PHASE}.{name}", 0.0)[: -len(DOUBLE(0.0))] for name in at.PHASES]
        self._pack = Struct("<" + "".join(f"{len(head)}sd" for head in self._heads)).pack
        self._queue, self._admission, self._execute, self._settle = self._heads

    def __call__(self, phases: tuple[float | None, ...]) -> bytes:
        if None in phases:
            found = zip(self._heads, phases, strict=True)
            return b"".join(head + DOUBLE(ms) for head, ms in found if ms is not None)
        queue, admission, execute, settle = phases
        return self._pack(
            self._queue, queue, self._admission, admission, self._execute, execute, self._settle, settle
        )  # fmt: skip


def attribute(name: str, value: Any) -> bytes:
    """Write one attribute of a span."""
    return sized(otlp.ATTRIBUTES, pair(name, value))


_cached: Final = lru_cache(1024)(attribute)
"""For what has few values."""


def _together(pairs: Mapping[str, Any]) -> bytes:
    return otlp.attributes(otlp.ATTRIBUTES, pairs)


class Calls:
    """Writes the spans of a worker's calls."""

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
        template = keys.reply_prefix.removesuffix(":")
        self._server = _together(server)
        self._ids = (_Text(at.MESSAGE_ID), _Text(at.CONVERSATION_ID), _Text(at.TOOL_CALL_ID))
        self._phases = _Phases()
        self._process = _named(f"process {keys.calls}", SpanKind.CONSUMER)
        self._process_attributes = _together({
            at.DESTINATION: keys.calls,
            at.OPERATION_NAME: "process",
            at.OPERATION_TYPE: "process",
            at.GROUP: keys.group,
            at.CLIENT_ID: consumer,
        })  # fmt: skip
        self._execute_attributes = attribute(at.GEN_AI_OPERATION, "execute_tool")
        self._send = _named(f"send {template}", SpanKind.PRODUCER)
        self._send_attributes = _together({at.OPERATION_NAME: "send", at.OPERATION_TYPE: "send"})
        # What has few values, or the same ones for a while.
        self._processed = lru_cache(1024)(self._write_processed)
        self._sent = lru_cache(1024)(self._write_sent)
        self._send_temporary = _together({at.DESTINATION_TEMPLATE: template, at.DESTINATION_TEMPORARY: True})

    def write(self, calls: Iterable[Plain]) -> list[bytes]:
        """Write their spans as a part of a request, in pieces."""
        spans: list[bytes] = []
        for call in calls:
            self._add(call, spans)
        return otlp.group(self._resource, {self._scope: spans})

    def _add(self, call: Plain, spans: list[bytes]) -> None:
        (
            _, trace_id, parent, process, tool, reply,
            read_ns, began_ns, tool_ended_ns, settling_ns, ended_ns,
            entry_id, call_id, tool_call_id, tool_name, reply_to,
            body_size, delivery, outcome, phases, batch, error, tool_error,
        ) = call  # fmt: skip
        entry, conversation, tool_call = self._ids
        common = b"".join((
            self._server, entry(entry_id), conversation(call_id), tool_call(tool_call_id),
            _cached(at.TOOL_NAME, tool_name),
        ))  # fmt: skip
        if tool:
            spans.append(b"".join((
                _TRACE, trace_id, _SPAN, tool, _PARENT, process, _named(f"execute_tool {tool_name}", SpanKind.INTERNAL),
                _TIMES(otlp.START, began_ns, otlp.END, tool_ended_ns),
                common, self._execute_attributes, *_failed(tool_error), _LOCAL,
            )))  # fmt: skip
        if reply:
            spans.append(b"".join((
                _TRACE, trace_id, _SPAN, reply, _PARENT, process, self._send,
                _TIMES(otlp.START, settling_ns, otlp.END, ended_ns),
                common, self._sent(reply_to, batch), _NO_STATUS, _LOCAL,
            )))  # fmt: skip
        above = (_PARENT, parent) if parent else ()
        linked = (_LINK, trace_id, _LINKED, parent, _LINKED_REMOTE) if parent else ()
        error_attribute, state = _failed(error)
        spans.append(b"".join((
            _TRACE, trace_id, _SPAN, process, *above, self._process,
            _TIMES(otlp.START, read_ns, otlp.END, ended_ns),
            common, self._processed(body_size, delivery, outcome), self._phases(phases), error_attribute,
            *linked, state, _REMOTE if parent else _LOCAL,
        )))  # fmt: skip

    def _write_processed(self, body_size: int, delivery: str, outcome: str) -> bytes:
        attempt = _together({at.BODY_SIZE: body_size, at.ATTEMPT: _FIRST_ATTEMPT, at.DELIVERY: delivery})
        return self._process_attributes + attempt + attribute(at.OUTCOME, outcome)

    def _write_sent(self, reply_to: str, batch: int) -> bytes:
        to = attribute(at.DESTINATION, reply_to)
        return self._send_attributes + to + self._send_temporary + attribute(at.BATCH_COUNT, batch)


@lru_cache(1024)
def _named(name: str, kind: SpanKind) -> bytes:
    return sized(otlp.NAME, text(name)) + otlp.KIND + varint(kind.value + 1)


_FINE: Final = (b"", _NO_STATUS)


def _failed(error: Error | None) -> tuple[bytes, bytes]:
    """Write the attribute and the status of an error."""
    if error is None:
        return _FINE
    kind, message = error
    # Code 2 is an error; without a message it is none of ours.
    state = _NO_STATUS if message is None else sized(otlp.STATUS, otlp.status(2, message))
    return _cached(at.ERROR_TYPE, kind), state
