"""A call in the form of one field `payload`, as older producers write it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec.fields import (
    CALL_FIELDS,
    PAYLOAD,
    REQUIRED,
    TRACE_FIELDS,
    VERSION,
    checked_deadline,
    checked_id,
    checked_object,
    checked_reply_to,
    checked_tool,
    naming,
    refuse,
    trace_in,
)
from toolspan.codec.json import dumps, loads, nested_within
from toolspan.codec.legible import legible
from toolspan.model import NewerCall, ToolCall, TraceFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolspan.codec.limits import Limits, Rules

_NAMES: Final = (*CALL_FIELDS, "meta")
_OWN_NAME: Final = re.compile(rb'"(%s)"\s*:' % "|".join(_NAMES).encode())


def is_payload(values: Mapping[bytes, bytes]) -> bool:
    """Whether these are the fields of an entry in this form."""
    return PAYLOAD in values and values.keys().isdisjoint(REQUIRED)


def read_payload(raw: bytes, limits: Limits) -> dict[str, Any]:
    """Decode the JSON object of a payload; its arguments, one level down, may be nested as deep as ever.

    Raises:
        ValueError: if it is not one, or nested deeper.
    """
    try:
        return checked_object("payload", loads(raw, nesting=limits.nesting + 1))
    except ValueError as exc:
        return refuse(naming("payload", exc))


def from_payload(
    entry_id: str, fields: Sequence[bytes], values: Mapping[bytes, bytes], rules: Rules
) -> ToolCall | NewerCall:
    """Decode a call from its payload; *values* are the *fields* of the entry by name.

    Raises:
        ValueError: if it is malformed.
    """
    body = _body(fields, values[PAYLOAD], rules.limits)
    version = body.get("v", VERSION)
    if type(version) is not int or version < 1:
        refuse("v is not a version number")
    if version != VERSION:
        # Its own rules are not ours to check, but for what `v` is.
        _refuse_repeated_names(values[PAYLOAD], ("v",))
        found = legible({"id": entry_id, **body}, rules)
        return NewerCall(
            version,
            found.call_id,
            found.tool,
            found.reply_to,
            _trace(body, values),
            found.idem,
            found.principal,
        )
    _refuse_repeated_names(values[PAYLOAD], _NAMES)
    call_id = checked_id(_string(body, "id") if "id" in body else entry_id)
    reply_to = checked_reply_to(_string(body, "reply_to"), rules.reply_prefix)
    trace = _trace(body, values)
    return ToolCall(
        call_id,
        checked_tool(_string(body, "tool")),
        checked_object("args", body.get("args")),
        reply_to,
        _deadline(body.get("deadline")),
        _string(body, "idem"),
        trace,
        _string(body, "tool_call_id"),
        _string(body, "principal"),
        _string(body, "attempt_of"),
        _string(body, "replay_of"),
        _meta(body.get("meta", {})),
    )


def for_program(values: Mapping[bytes, bytes], limits: Limits) -> dict[str, Any]:
    """Decode an entry for a program that replies by itself: the JSON object of its payload as it is.

    An entry without `payload` gives its fields as a dict, with `args` decoded if it is JSON.

    Raises:
        ValueError: if `payload` is no JSON object, a field is not UTF-8, or either is nested too deep.
    """
    raw = values.get(PAYLOAD)
    if raw is not None:
        return read_payload(raw, limits)
    texts: dict[str, Any] = {name.decode(): value.decode() for name, value in values.items()}
    args = values.get(b"args")
    if args is not None:
        if not nested_within(args, limits.nesting):
            refuse(f"args is nested deeper than {limits.nesting} levels")
        try:
            texts["args"] = loads(args, nesting=limits.nesting)
        except ValueError:
            # Nothing says that it must be JSON: the program knows what it is.
            return texts
    return texts


def _body(fields: Sequence[bytes], raw: bytes, limits: Limits) -> dict[str, Any]:
    """Give what the payload holds; a name without a value is as good as none."""
    if fields[::2].count(PAYLOAD) > 1:
        refuse("field payload is given twice")
    # The older form has no size of its own: the whole of it may be as large as args.
    if len(raw) > limits.args_bytes:
        refuse(f"payload has {len(raw)} bytes; {limits.args_bytes} are allowed")
    body = read_payload(raw, limits)
    return {name: value for name, value in body.items() if value is not None}


def _refuse_repeated_names(raw: bytes, ours: Sequence[str]) -> None:
    """Refuse an object that has one of these names twice; our fast decoder would keep the last."""
    found = _OWN_NAME.findall(raw)
    # Only this escape can hide a letter.
    if len(found) == len(set(found)) and b"\\u00" not in raw:
        return
    # The hook sees the innermost objects first, so the outermost is what comes back; numbers are of no interest.
    pairs: list[tuple[str, Any]] = json.loads(raw, object_pairs_hook=list, parse_int=str, parse_float=str)
    names = [name for name, _ in pairs]
    for name in ours:
        if names.count(name) > 1:
            refuse(f"{name} is given twice")


def _string(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        return refuse(f"{name} is not a string")
    return value


def _deadline(value: Any) -> int | None:
    if value is None:
        return None
    return checked_deadline(b"%d" % value if type(value) is int else b"")


def _trace(body: Mapping[str, Any], values: Mapping[bytes, bytes]) -> TraceFields:
    """Read the trace fields; those beside the payload win."""
    inside = {name.encode(): body[name].encode() for name in TRACE_FIELDS if isinstance(body.get(name), str)}
    return trace_in({**inside, **values})


def _meta(value: Any) -> dict[str, str]:
    meta = checked_object("meta", value)
    return {name: one if isinstance(one, str) else dumps(one).decode() for name, one in meta.items()}
