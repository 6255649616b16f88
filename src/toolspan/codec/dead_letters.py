"""A dead letter, and the call that its replay makes."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from toolspan.codec.fields import PAYLOAD, TRACE_FIELDS, VERSION, checked_object, refuse
from toolspan.codec.json import dumps
from toolspan.codec.limits import MAX_STACK_BYTES
from toolspan.codec.payload import is_payload
from toolspan.errors import MalformedEntryError
from toolspan.model import Attempt, DeadLetter, Failed

if TYPE_CHECKING:
    from collections.abc import Sequence

_ABOUT: Final = b"dlq."
_TRACE: Final = frozenset(name.encode() for name in TRACE_FIELDS)
# What a replay must not take over: it is a call of its own, which the original's caller does not wait for.
_NOT_REPLAYED: Final = frozenset({"id", "reply_to", "deadline", "idem", "replay_of", *TRACE_FIELDS})
_VARIABLE_TEXT: Final = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|[0-9]+|\s+")


def fingerprint(tool: str, reason: str, error_type: str, message: str) -> str:
    """Name the cause of a dead letter: equal for messages that differ only in numbers, ids and white space."""
    normal = _VARIABLE_TEXT.sub(lambda found: " " if found.group().isspace() else "#", message)
    return hashlib.sha256(f"{tool}\0{reason}\0{error_type}\0{normal}".encode(errors="replace")).hexdigest()[:16]


def dead_letter_fields(
    *,
    entry_id: str,
    reason: str,
    tool: str,
    failure: Failed,
    consumer: str,
    traceparent: str | None,
    reply: bytes | None = None,
) -> list[str | bytes]:
    """Encode what a worker knows of a dead letter; the script that writes it adds the times and the attempts."""
    fields: list[str | bytes] = [
        "dlq.id", entry_id,
        "dlq.reason", reason,
        "dlq.error_type", failure.type,
        "dlq.error_message", failure.message.encode(errors="replace"),
        "dlq.consumer", consumer,
        "dlq.fingerprint", fingerprint(tool, reason, failure.type, failure.message),
    ]  # fmt: skip
    if failure.stack:
        fields += ("dlq.stack", failure.stack.encode(errors="replace")[:MAX_STACK_BYTES])
    if traceparent:
        fields += ("dlq.traceparent", traceparent)
    if reply is not None:
        fields += ("dlq.reply", reply)
    return fields


def decode_dead_letter(letter_id: str, fields: Sequence[bytes], original: Sequence[Any] | None) -> DeadLetter:
    """Decode a dead letter. *original* is the entry that `dlq.raw` held, where it was kept whole and can be unpacked.

    Raises:
        MalformedEntryError: if it was not written by a worker.
    """
    about: dict[str, str] = {}
    kept: list[bytes] = []
    try:
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if name.startswith(_ABOUT):
                about[name[len(_ABOUT) :].decode()] = value.decode(errors="replace")
            else:
                kept += (name, value)
        if "raw" in about or original is not None:
            kept = _unpacked(original)
        first = about.get("first_delivered")
        return DeadLetter(
            id=letter_id,
            entry_id=about["id"],
            reason=about["reason"],
            error_type=about["error_type"],
            error_message=about["error_message"],
            stack=about.get("stack"),
            attempts=decode_attempts(about.get("attempts")),
            consumer=about["consumer"],
            first_delivered_ms=int(first) if first else None,
            at_ms=int(about["at"]),
            fingerprint=about["fingerprint"],
            traceparent=about.get("traceparent"),
            reply=about.get("reply"),
            fields=kept,
        )
    except (KeyError, ValueError) as exc:
        message = f"{letter_id} is not a dead letter of ours: {exc!r}"
        raise MalformedEntryError(message) from None


def _unpacked(original: Sequence[Any] | None) -> list[bytes]:
    parts = [part for part in original or () if isinstance(part, bytes)]
    if not parts or len(parts) % 2 or len(parts) != len(original or ()):
        return refuse("its dlq.raw cannot be unpacked")
    return parts


def decode_attempts(raw: str | bytes | None) -> list[Attempt]:
    """Decode an entry's list of attempts; what is absent is empty, and what cannot be read is as good as absent."""
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""
    try:
        elements = from_json(text)
    except ValueError:
        return []
    found = map(_attempt, elements if isinstance(elements, list) else ())
    return [attempt for attempt in found if attempt is not None]


def _attempt(element: Any) -> Attempt | None:
    try:
        end, error = element.get("end"), element.get("error")
        return Attempt(
            consumer=str(element["consumer"]),
            attempt=int(element["attempt"]),
            start_ms=int(element["start"]),
            end_ms=None if end is None else int(end),
            error=error if isinstance(error, str) else None,
        )
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        return None


def replay_fields(
    fields: Sequence[bytes], *, call_id: str, replay_of: str, reply_to: str | None = None
) -> list[str | bytes]:
    """Turn the original fields of a dead letter into those of a new call, answered to *reply_to* if that is given.

    The form stays what it was. The original's reply stream, deadline, idempotency key and trace are left out; the rest,
    unknown fields included, is carried over byte for byte.

    Raises:
        MalformedEntryError: if the original is no call: fields without values, or a payload that is not a JSON object.
    """
    try:
        pairs = list(zip(fields[::2], fields[1::2], strict=True))
        values = dict(pairs)
        if is_payload(values):
            payload = _replayed_payload(values[PAYLOAD], call_id=call_id, replay_of=replay_of, reply_to=reply_to)
            beside = [part for name, value in pairs if name != PAYLOAD and name not in _TRACE for part in (name, value)]
            return ["payload", payload, *beside]
    except ValueError as exc:
        raise MalformedEntryError(str(exc)) from None
    dropped = {b"v", *(name.encode() for name in _NOT_REPLAYED)}
    kept = [part for name, value in pairs if name not in dropped for part in (name, value)]
    answered = [] if reply_to is None else ["reply_to", reply_to]
    return ["v", values.get(b"v", str(VERSION)), "id", call_id, *kept, "replay_of", replay_of, *answered]


def _replayed_payload(raw: bytes, *, call_id: str, replay_of: str, reply_to: str | None) -> bytes:
    body = checked_object("its payload", from_json(raw))
    kept = {name: value for name, value in body.items() if name not in _NOT_REPLAYED}
    answered = {} if reply_to is None else {"reply_to": reply_to}
    return dumps({**kept, "id": call_id, "replay_of": replay_of, **answered})
