"""The call id of an entry, without a look at the rest."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from toolspan.codec.fields import PAYLOAD, REQUIRED
from toolspan.codec.json import loads

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_NESTING: Final = 200


def call_id_in(entry_id: str, fields: Sequence[bytes]) -> str | None:
    """Give the call id that an entry of either form would be decoded with; None where none can be read."""
    payload: bytes | None = None
    for i in range(0, len(fields) - 1, 2):
        name = fields[i]
        if name == b"id":
            with suppress(UnicodeDecodeError):
                return fields[i + 1].decode()
            return None
        if name == PAYLOAD:
            payload = fields[i + 1]
    # Beside a field of the other form, a payload is nothing that we know.
    return None if payload is None or not REQUIRED.isdisjoint(fields[::2]) else _in_payload(entry_id, payload)


def _in_payload(entry_id: str, raw: bytes) -> str | None:
    with suppress(ValueError):
        payload = loads(raw, nesting=_MAX_NESTING)
        if isinstance(payload, dict):
            call_id = payload.get("id", entry_id)
            return call_id if isinstance(call_id, str) else None
    return None
