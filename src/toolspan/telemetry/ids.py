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
    return int.from_bytes(_digest(f"{call_id}\0{delivery.entry_id}\0{number}\0{consumer}")[_PART_OF[role]])


def first_span_ids_of(entry_id: str, call_id: str, consumer: str) -> tuple[bytes, bytes, bytes]:
    """Derive the ids of `process`, `execute_tool` and `send` of a first attempt, as `span_id_of` does."""
    digest = _digest(f"{call_id}\0{entry_id}\x001\0{consumer}")
    return digest[:8], digest[8:16], digest[16:24]


def trace_id_of(call_id: str) -> int:
    """Derive the trace id of a call that brought no trace context."""
    # Zero is no valid id.
    return int.from_bytes(_digest(call_id)[:16]) or 1


_PART_OF: Final = {"": slice(8), "execute_tool": slice(8, 16), "send": slice(16, 24), "settle": slice(24, 32)}
"""Which part of one hash is the id of which span."""


def _digest(text: str) -> bytes:
    return blake2b(text.encode() if text.isascii() else text.encode(errors="replace")).digest()
