"""A call in the form of fields."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Final

from toolspan.codec.fields import (
    META,
    TRACE_FIELDS,
    VERSION,
    checked_deadline,
    checked_id,
    checked_object,
    checked_reply_to,
    checked_tool,
    checked_version,
    header,
    naming,
    refuse,
    refuse_repeated,
    text_in,
    trace_in,
)
from toolspan.codec.json import dumps, loads, nested_within
from toolspan.codec.legible import legible_fields
from toolspan.codec.limits import MAX_FIELDS, MAX_ID_CHARS, MAX_TRACE_BYTES
from toolspan.errors import MalformedEntryError, TooLarge
from toolspan.model import NO_TRACE, NewerCall, ToolCall, TraceFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolspan.codec.limits import Limits, Rules

_META_CHARS: Final = len(META)
_FIRST: Final = [b"v", b"id", b"tool", b"args"]
_OPTIONAL: Final = (b"reply_to", b"deadline", *(name.encode() for name in TRACE_FIELDS))
_USUAL: Final = frozenset((*_FIRST, *_OPTIONAL))


def _places(names: tuple[bytes, ...]) -> tuple[int, ...]:
    """Tell where the value of each optional field stands if just *names* follow the first ones; 0 for none."""
    return tuple(2 * (len(_FIRST) + names.index(name)) + 1 if name in names else 0 for name in _OPTIONAL)


_PLACES: Final = {
    names: _places(names) for count in range(len(_OPTIONAL) + 1) for names in combinations(_OPTIONAL, count)
}
"""The layouts of ordinary calls, by the names that follow the first ones: in the order of `encode`."""

_NAMES_KEPT: Final = 1_024
"""Names come again in call after call; callers can think up any number of them."""


def encode(call: ToolCall, trace: TraceFields, rules: Rules) -> list[str | bytes]:
    """Encode *call*, its fields always in the same order.

    Raises:
        TooLarge: if the arguments are over a limit, or there are more fields than a script can write.
        MalformedEntryError: for anything else that a worker would refuse.
    """
    try:
        args = dumps(call.args)
        _refuse_too_large(args, rules.limits)
        call_id = checked_id(call.id).encode()
        fields: list[str | bytes] = ["v", str(VERSION), "id", call_id, "tool", checked_tool(call.tool), "args", args]
        reply_to = checked_reply_to(call.reply_to, rules.reply_prefix)
        if reply_to is not None:
            fields += ("reply_to", reply_to.encode())
        if call.deadline_ms is not None:
            fields += ("deadline", str(checked_deadline(b"%d" % call.deadline_ms)))
        _add_optional(fields, call, trace)
    except ValueError as exc:
        raise MalformedEntryError(str(exc)) from None
    refuse_too_many(fields)
    return fields


def refuse_too_many(fields: Sequence[str | bytes]) -> None:
    """Refuse more fields than the scripts can write."""
    if len(fields) > 2 * MAX_FIELDS:
        message = f"{len(fields) // 2} fields; {MAX_FIELDS} are allowed"
        raise TooLarge(message)


def _refuse_too_large(args: bytes, limits: Limits) -> None:
    if len(args) > limits.args_bytes:
        message = f"arguments of {len(args)} bytes; {limits.args_bytes} are allowed"
        raise TooLarge(message)
    if not nested_within(args, limits.nesting):
        message = f"arguments nested deeper than {limits.nesting} levels"
        raise TooLarge(message)


def _add_optional(fields: list[str | bytes], call: ToolCall, trace: TraceFields) -> None:
    for name, text in (
        ("idem", call.idem),
        ("tool_call_id", call.tool_call_id),
        ("principal", call.principal),
        ("attempt_of", call.attempt_of),
        ("replay_of", call.replay_of),
    ):
        if text is not None:
            fields += (name, text.encode())
    for name, value in (
        ("traceparent", trace.traceparent),
        ("tracestate", trace.tracestate),
        ("baggage", trace.baggage),
    ):
        # What no worker could read stays here.
        if value and value.isascii() and len(value) <= MAX_TRACE_BYTES:
            fields += (name, value)
    for key, value in call.meta.items():
        # As it was read: bytes of whatever kind.
        fields += (META + key.encode(errors="surrogateescape"), value.encode(errors="surrogateescape"))


def from_usual(fields: Sequence[bytes], rules: Rules) -> ToolCall | None:
    """Decode an ordinary call, laid out as `encode` does it; None: it is not, and `from_fields` knows what it is.

    Nearly every call is one. Its values are where they are expected: nothing has to be looked up by name.
    """
    places = _PLACES.get(tuple(fields[8::2]))
    if places is None or fields[:8:2] != _FIRST or fields[1] != b"1" or len(fields[7]) > rules.limits.args_bytes:
        return None
    reply_to, deadline, parent, state, baggage = places
    try:
        call_id, args = fields[3].decode(), loads(fields[7], nesting=rules.limits.nesting)
        # Looked at here, for a function costs more than what it would check; what is not right is refused elsewhere.
        if not 0 < len(call_id) <= MAX_ID_CHARS or type(args) is not dict:
            return None
        return ToolCall(
            call_id,
            _tool(fields[5]),
            args,
            _reply_to(fields[reply_to], rules.reply_prefix) if reply_to else None,
            checked_deadline(fields[deadline]) if deadline else None,
            None,
            TraceFields(
                header(fields[parent]) if parent else None,
                header(fields[state]) if state else None,
                header(fields[baggage]) if baggage else None,
            )
            if parent or state or baggage
            else NO_TRACE,
        )
    except ValueError:
        return None


@lru_cache(_NAMES_KEPT)
def _tool(raw: bytes) -> str:
    return checked_tool(raw.decode())


@lru_cache(_NAMES_KEPT)
def _reply_to(raw: bytes, prefix: str) -> str | None:
    return checked_reply_to(raw.decode(), prefix)


def from_fields(fields: Sequence[bytes], values: Mapping[bytes, bytes], rules: Rules) -> ToolCall | NewerCall:
    """Decode a call from the *fields* of its entry; *values* are the same by name.

    Raises:
        ValueError: if it is malformed.
    """
    version = checked_version(values.get(b"v"))
    if version != VERSION:
        return _newer(version, fields, values, rules)
    if len(values) * 2 != len(fields):
        refuse_repeated(fields)
    call_id = checked_id(text_in(values, b"id"))
    reply_to = checked_reply_to(text_in(values, b"reply_to"), rules.reply_prefix)
    trace = trace_in(values)
    limits = rules.limits
    raw_args = values.get(b"args")
    if raw_args is None:
        refuse("field args is missing")
    if len(raw_args) > limits.args_bytes:
        refuse(f"args has {len(raw_args)} bytes; {limits.args_bytes} are allowed")
    tool = checked_tool(text_in(values, b"tool"))
    try:
        args = checked_object("args", loads(raw_args, nesting=limits.nesting))
    except ValueError as exc:
        refuse(naming("args", exc))
    deadline_ms = checked_deadline(values.get(b"deadline"))
    if values.keys() <= _USUAL:
        # Nothing else need be looked for, in nearly every call.
        return ToolCall(call_id, tool, args, reply_to, deadline_ms, None, trace)
    return ToolCall(
        call_id,
        tool,
        args,
        reply_to,
        deadline_ms,
        text_in(values, b"idem"),
        trace,
        text_in(values, b"tool_call_id"),
        text_in(values, b"principal"),
        text_in(values, b"attempt_of"),
        text_in(values, b"replay_of"),
        {
            name[_META_CHARS:].decode(errors="surrogateescape"): value.decode(errors="surrogateescape")
            for name, value in values.items()
            if name.startswith(META)
        },
    )


def _newer(version: int, fields: Sequence[bytes], values: Mapping[bytes, bytes], rules: Rules) -> NewerCall:
    """Read of an entry of a higher version what can be: its own rules are not ours to check, but for what `v` is."""
    if fields[::2].count(b"v") > 1:
        refuse("field v is given twice")
    found = legible_fields(values, rules)
    return NewerCall(version, found.call_id, found.tool, found.reply_to, trace_in(values), found.idem, found.principal)
