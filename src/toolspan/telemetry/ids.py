"""Derived span ids: whoever claims an entry can name and end the span of the attempt before, with nothing stored."""

from __future__ import annotations

import threading
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

if TYPE_CHECKING:
    from toolspan.model import Delivery


class DerivedIds(IdGenerator):
    """Gives the ids that were set for the span that is about to start, and random ones to all others."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._next = threading.local()

    def use(self, *, span_id: int, trace_id: int) -> None:
        """Set the ids of the next span that this thread starts; the trace id counts if it has no parent."""
        self._next.ids = (span_id, trace_id)

    def generate_span_id(self) -> int:
        """Give the next span's id."""
        ids: tuple[int, int] | None = getattr(self._next, "ids", None)
        self._next.ids = None
        return ids[0] if ids else self._random.generate_span_id()

    def generate_trace_id(self) -> int:
        """Give the next span's trace id. The SDK asks for it before the span id."""
        ids: tuple[int, int] | None = getattr(self._next, "ids", None)
        return ids[1] if ids else self._random.generate_trace_id()


def span_id_of(delivery: Delivery, call_id: str, consumer: str, *, attempt: int | None = None, role: str = "") -> int:
    """Derive the id of the `process` span of an attempt, or with *role* of a span below it."""
    number = delivery.attempt if attempt is None else attempt
    return _digest(f"{call_id}\0{delivery.entry_id}\0{number}\0{consumer}", 8) ^ _ROLES[role] or 1


def first_span_ids_of(entry_id: str, call_id: str, consumer: str) -> tuple[bytes, bytes, bytes]:
    """Derive the ids of `process`, `execute_tool` and `send` of a first attempt, as `span_id_of` does."""
    process = blake2b(_bytes(f"{call_id}\0{entry_id}\x001\0{consumer}"), digest_size=8).digest()
    number = int.from_bytes(process)
    return process, (number ^ _TOOL).to_bytes(8), (number ^ _SEND).to_bytes(8)


def trace_id_of(call_id: str) -> int:
    """Derive the trace id of a call that brought no trace context."""
    return _digest(call_id, 16)


# Which they are does not matter: they tell the spans of one attempt from each other.
_ROLES: Final = {
    role: int.from_bytes(blake2b(role.encode(), digest_size=8).digest()) if role else 0
    for role in ("", "execute_tool", "send", "settle")
}
_TOOL, _SEND = _ROLES["execute_tool"], _ROLES["send"]


def _digest(text: str, size: int) -> int:
    # Zero is no valid id.
    return int.from_bytes(blake2b(_bytes(text), digest_size=size).digest()) or 1


def _bytes(text: str) -> bytes:
    return text.encode() if text.isascii() else text.encode(errors="replace")
