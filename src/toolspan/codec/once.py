"""The idempotency record: what is remembered of a call under its caller's key."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec.fields import checked_object, refuse
from toolspan.codec.json import dumps, loads
from toolspan.codec.replies import decode_reply
from toolspan.errors import MalformedEntryError
from toolspan.model import OnceKey, Remembered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolspan.model import ErrorType, ToolCall

FORGOTTEN: Final[frozenset[ErrorType]] = frozenset({"cancelled", "deadline_exceeded", "worker_error", "quarantined"})
"""Ends after which another try with the same key may run: none of them is the tool's own."""

_RECORD_LEVELS: Final = 4


def once_digest(principal: str | None, tool: str, key: str) -> str:
    """Name the record of a key: every principal, and every tool, has keys of its own."""
    return hashlib.sha256(f"{principal or ''}\0{tool}\0{key}".encode(errors="replace")).hexdigest()


def once_key(call: ToolCall) -> OnceKey | None:
    """Give what a record is found by and compared with; None for a call without an idempotency key."""
    if call.idem is None:
        return None
    digest = once_digest(call.principal, call.tool, call.idem)
    return OnceKey(digest, dumps(call.id).decode(), _arguments_digest(call.args))


def _arguments_digest(args: Mapping[str, Any]) -> str:
    """Hash arguments so that the order of names and the way of writing them do not matter."""
    canonical = json.dumps(json.loads(dumps(args)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def encode_remembered(reply: Sequence[str | bytes]) -> bytes:
    """Encode the fields of a final reply as they stand in the record: one list of texts."""
    return dumps([part if isinstance(part, str) else part.decode() for part in reply])


def decode_record(raw: bytes) -> Remembered:
    """Decode a record.

    Raises:
        MalformedEntryError: whatever the bytes are, and nothing else.
    """
    try:
        record = checked_object("the record", loads(raw, nesting=_RECORD_LEVELS))
        call_id, entry_id, reply = (record.get(name) for name in ("id", "entry", "reply"))
        if not isinstance(call_id, str) or not isinstance(entry_id, str):
            refuse("the record names no call")
        if reply is None:
            return Remembered(call_id, entry_id, None)
        if not isinstance(reply, list) or not all(isinstance(part, str) for part in reply):
            refuse("the record's reply is no list of texts")
    except ValueError as exc:
        raise MalformedEntryError(str(exc)) from None
    return Remembered(call_id, entry_id, decode_reply([part.encode() for part in reply]))
