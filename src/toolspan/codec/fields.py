"""The fields of a call: their names, and what each may hold. Whatever is refused here raises ValueError."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from toolspan.codec.limits import MAX_ID_CHARS, MAX_KEY_CHARS, MAX_TRACE_BYTES
from toolspan.model import NO_TRACE, TraceFields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION: Final = 1

TRACE_FIELDS: Final = ("traceparent", "tracestate", "baggage")
CALL_FIELDS: Final = (
    "v",
    "id",
    "tool",
    "args",
    "reply_to",
    "deadline",
    "idem",
    "tool_call_id",
    "principal",
    "attempt_of",
    "replay_of",
)
META: Final = b"meta."
PAYLOAD: Final = b"payload"
REQUIRED: Final = frozenset({b"v", b"id", b"tool", b"args"})

CONTROLS: Final = r"\x00-\x1f\x7f-\x9f"
"""The control characters, as a range of a regular expression of any language."""

_TABLE: Final = frozenset(name.encode() for name in CALL_FIELDS)
TOOL_NAME: Final = "[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
"""What the name of a tool looks like, as a regular expression of any language."""

_TOOL: Final = re.compile(TOOL_NAME, re.ASCII)
_ONE_LINE: Final = re.compile(rf"[^{CONTROLS}\ud800-\udfff]+")
_VERSION: Final = re.compile(rb"[1-9][0-9]{0,14}")
_LONGEST_MILLISECONDS: Final = 15


def refuse(reason: str) -> NoReturn:
    """Say why an entry is malformed."""
    raise ValueError(reason)


def naming(name: str, problem: ValueError) -> str:
    """Give the words of *problem* with the field's *name* in them."""
    told = str(problem)
    return told if told.startswith(name) else f"{name} cannot be read: {told}"


def by_name(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """Give the fields of an entry by their names; of a name that is given twice, the last."""
    if len(fields) % 2:
        refuse("a field has no value")
    parts = iter(fields)
    return dict(zip(parts, parts, strict=False))


def refuse_repeated(fields: Sequence[bytes]) -> None:
    """Refuse an entry that has a field of ours twice."""
    seen: set[bytes] = set()
    for name in fields[::2]:
        if name in seen and (name in _TABLE or name.startswith(META)):
            refuse(f"field {name.decode()} is given twice")
        seen.add(name)


def text_in(values: Mapping[bytes, bytes], name: bytes) -> str | None:
    """Give a field's text; None where the field is absent."""
    raw = values.get(name)
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError as exc:
        return refuse(f"{name.decode()} is not UTF-8: {exc.reason} at byte {exc.start}")


def is_one_line(text: str) -> bool:
    """Whether this is a text that can be sent, without control characters: whatever names a key of Redis is one."""
    return _ONE_LINE.fullmatch(text) is not None


def checked_version(raw: bytes | None) -> int:
    """Give the protocol version that an entry follows."""
    if raw == b"1":
        return 1
    if raw is None or not _VERSION.fullmatch(raw):
        return refuse("v is missing, or not a version number")
    return int(raw)


def checked_id(text: str | None) -> str:
    """Give a call id."""
    if text is None or not 0 < len(text) <= MAX_ID_CHARS:
        return refuse(f"id is missing, empty or longer than {MAX_ID_CHARS} characters")
    return text


def checked_tool(text: str | None) -> str:
    """Give a tool's name."""
    if text is None or not _TOOL.fullmatch(text):
        return refuse("tool is missing, or not 1-128 of A-Za-z0-9_.- that begin with a letter or digit")
    return text


def checked_reply_to(text: str | None, prefix: str) -> str | None:
    """Give the key of the reply stream: one under *prefix*, or callers could have us write to any key."""
    if text is None or (text.startswith(prefix) and len(text) <= MAX_KEY_CHARS):
        return text
    return refuse(f"reply_to does not match {prefix}*, or is longer than {MAX_KEY_CHARS} characters")


def checked_deadline(raw: bytes | None) -> int | None:
    """Give a deadline in unix ms."""
    if raw is None:
        return None
    if not raw.isdigit() or len(raw) > _LONGEST_MILLISECONDS:
        return refuse("deadline is not unix milliseconds")
    return int(raw)


def checked_object(name: str, value: Any) -> dict[str, Any]:
    """Give a decoded JSON object."""
    if not isinstance(value, dict):
        return refuse(f"{name} is not a JSON object")
    return value


def trace_of(fields: Sequence[bytes]) -> TraceFields:
    """Read the trace fields that stand in the entry itself, whatever else it is."""
    return trace_in(dict(zip(fields[::2], fields[1::2], strict=False)))


def trace_in(values: Mapping[bytes, bytes]) -> TraceFields:
    """Read trace fields; what cannot be read is ignored and never makes an entry malformed."""
    traceparent, tracestate, baggage = values.get(b"traceparent"), values.get(b"tracestate"), values.get(b"baggage")
    if traceparent is None and tracestate is None and baggage is None:
        return NO_TRACE
    return TraceFields(header(traceparent), header(tracestate), header(baggage))


def header(raw: bytes | None) -> str | None:
    """Read one of them."""
    return raw.decode() if raw and len(raw) <= MAX_TRACE_BYTES and raw.isascii() else None
