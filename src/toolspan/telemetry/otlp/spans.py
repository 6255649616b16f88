"""Finished spans as OTLP: `ExportTraceServiceRequest`, as opentelemetry-proto 1.10 has it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from toolspan.telemetry.otlp.wire import FIXED32, FIXED64, pair, sized, tag, text, varint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, Status, TraceState

_log: Final = logging.getLogger(__name__)

_RESOURCE_SPANS: Final = tag(1, 2)
_RESOURCE, _SCOPE_SPANS, _RESOURCE_SCHEMA = tag(1, 2), tag(2, 2), tag(3, 2)
_SCOPE, SPANS, _SCOPE_SCHEMA = tag(1, 2), tag(2, 2), tag(3, 2)
_SCOPE_NAME, _SCOPE_VERSION, _SCOPE_ATTRIBUTES = tag(1, 2), tag(2, 2), tag(3, 2)

TRACE_ID, SPAN_ID, TRACE_STATE, PARENT, NAME = (tag(field, 2) for field in range(1, 6))
KIND, START, END = tag(6, 0), tag(7, 1), tag(8, 1)
ATTRIBUTES, DROPPED_ATTRIBUTES = tag(9, 2), tag(10, 0)
_EVENTS, _DROPPED_EVENTS, LINKS, _DROPPED_LINKS = tag(11, 2), tag(12, 0), tag(13, 2), tag(14, 0)
STATUS, FLAGS = tag(15, 2), tag(16, 5)
_LINK_ATTRIBUTES, _LINK_DROPPED, LINK_FLAGS = tag(4, 2), tag(5, 0), tag(6, 5)
_EVENT_TIME, _EVENT_NAME, _EVENT_ATTRIBUTES, _EVENT_DROPPED = tag(1, 1), tag(2, 2), tag(3, 2), tag(4, 0)
STATUS_MESSAGE, STATUS_CODE = tag(2, 2), tag(3, 0)

LOCAL: Final = FIXED32(0x100)
REMOTE: Final = FIXED32(0x300)
"""What the flags of a span say of its parent: that it is known where it was, and where."""


def request(spans: Sequence[ReadableSpan], more: Sequence[bytes] = ()) -> bytes:
    """Write a request with *spans* in it; *more* is what `group` gave, and comes first."""
    groups: dict[Resource, dict[InstrumentationScope | None, list[bytes]]] = {}
    for one in spans:
        try:
            written = sized(SPANS, span(one))
        except Exception as problem:  # noqa: BLE001
            # Anybody can have made it, of anything; the others are none the worse for it.
            _log.warning("span %s is left out: %s", one.name, problem)
            continue
        scopes = groups.setdefault(one.resource, {})
        scopes.setdefault(one.instrumentation_scope or None, []).append(written)
    parts = [*more]
    for resource, scopes in groups.items():
        parts += group(resource, scopes)
    return b"".join(parts)


def group(resource: Resource, scopes: Mapping[InstrumentationScope | None, Sequence[bytes]]) -> list[bytes]:
    """Write the spans of one resource, each of which was written before as a field of its own, by what recorded them.

    It is given in pieces: there may be a megabyte of it, which is copied once.
    """
    body = [sized(_RESOURCE, _resource(resource))]
    for scope, spans in scopes.items():
        within = [sized(_SCOPE, _scope(scope) if scope else b""), *spans]
        if scope is not None and scope.schema_url:
            within.append(sized(_SCOPE_SCHEMA, text(scope.schema_url)))
        body += _sized(_SCOPE_SPANS, within)
    if resource.schema_url:
        body.append(sized(_RESOURCE_SCHEMA, text(resource.schema_url)))
    return _sized(_RESOURCE_SPANS, body)


def _sized(head: bytes, pieces: list[bytes]) -> list[bytes]:
    return [head, varint(sum(map(len, pieces))), *pieces]


@lru_cache(64)
def _resource(resource: Resource) -> bytes:
    return attributes(_RESOURCE, resource.attributes)


@lru_cache(64)
def _scope(scope: InstrumentationScope) -> bytes:
    parts = [sized(_SCOPE_NAME, text(scope.name))] if scope.name else []
    if scope.version:
        parts.append(sized(_SCOPE_VERSION, text(scope.version)))
    return b"".join(parts) + attributes(_SCOPE_ATTRIBUTES, scope.attributes)


def span(one: ReadableSpan) -> bytes:
    """Write one span, without its place in the request."""
    context: SpanContext | None = one.context
    if context is None:
        message = f"the span {one.name} has no context"
        raise ValueError(message)
    parts = [sized(TRACE_ID, context.trace_id.to_bytes(16)), sized(SPAN_ID, context.span_id.to_bytes(8))]
    if context.trace_state:
        parts.append(sized(TRACE_STATE, text(_state(context.trace_state))))
    if one.parent is not None:
        parts.append(sized(PARENT, one.parent.span_id.to_bytes(8)))
    if one.name:
        parts.append(sized(NAME, text(one.name)))
    # As the SDK counts kinds from 0, and OTLP from 1.
    parts.append(KIND + varint(one.kind.value + 1))
    if one.start_time:
        parts.append(START + FIXED64(one.start_time))
    if one.end_time:
        parts.append(END + FIXED64(one.end_time))
    parts.append(attributes(ATTRIBUTES, one.attributes))
    parts.append(_count(DROPPED_ATTRIBUTES, one.dropped_attributes))
    parts += [sized(_EVENTS, _event(event)) for event in one.events]
    parts.append(_count(_DROPPED_EVENTS, one.dropped_events))
    parts += [sized(LINKS, _link(link)) for link in one.links]
    parts.append(_count(_DROPPED_LINKS, one.dropped_links))
    parts += [sized(STATUS, _status(one.status)), FLAGS, REMOTE if one.parent and one.parent.is_remote else LOCAL]
    return b"".join(parts)


def attributes(head: bytes, pairs: Mapping[str, Any] | None) -> bytes:
    """Write attributes as fields with the tag *head*; one that cannot be written is left out."""
    if not pairs:
        return b""
    found = []
    for name, value in _copied(pairs).items():
        try:
            found.append(sized(head, pair(name, value)))
        except ValueError as problem:
            _log.warning("attribute %s is left out: %s", name, problem)
    return b"".join(found)


def _copied(pairs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give *pairs* as a dictionary: the SDK's own kind is slow to walk through, but quick to copy."""
    try:
        return pairs.copy()  # type: ignore[attr-defined, no-any-return]
    except AttributeError:
        return dict(pairs)


def status(code: int, message: str | None) -> bytes:
    """Write a status; *code* 0 is unset, 1 is good, 2 is an error."""
    words = sized(STATUS_MESSAGE, text(message)) if message else b""
    return words + _count(STATUS_CODE, code)


def link(trace_id: bytes, span_id: bytes, *, remote: bool) -> bytes:
    """Write a link without attributes."""
    return sized(TRACE_ID, trace_id) + sized(SPAN_ID, span_id) + LINK_FLAGS + (REMOTE if remote else LOCAL)


def _status(given: Status) -> bytes:
    return status(given.status_code.value, given.description)


def _event(event: Event) -> bytes:
    parts = [_EVENT_TIME + FIXED64(event.timestamp)] if event.timestamp else []
    if event.name:
        parts.append(sized(_EVENT_NAME, text(event.name)))
    parts += [attributes(_EVENT_ATTRIBUTES, event.attributes), _count(_EVENT_DROPPED, event.dropped_attributes)]
    return b"".join(parts)


def _link(one: Link) -> bytes:
    context = one.context
    parts = [sized(TRACE_ID, context.trace_id.to_bytes(16)), sized(SPAN_ID, context.span_id.to_bytes(8))]
    parts += [attributes(_LINK_ATTRIBUTES, one.attributes), _count(_LINK_DROPPED, one.dropped_attributes)]
    parts += [LINK_FLAGS, REMOTE if context.is_remote else LOCAL]
    return b"".join(parts)


def _count(head: bytes, number: int) -> bytes:
    """Write a whole number where there is one: 0 is what a reader takes for granted."""
    return head + varint(number) if number else b""


def _state(state: TraceState) -> str:
    return ",".join(f"{name}={value}" for name, value in state.items())
