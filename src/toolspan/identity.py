"""Call ids: UUIDs of version 7, which sort by time."""

from __future__ import annotations

import os
import time
import uuid


def new_call_id() -> str:
    """Make a UUIDv7: 48 bits of unix milliseconds, then random (RFC 9562, section 5.7)."""
    value = int.from_bytes(os.urandom(16))
    value &= ~(0xFFFFFFFFFFFF << 80) & ~(0xF << 76) & ~(0x3 << 62)
    value |= (time.time_ns() // 1_000_000 & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | 0x2 << 62
    return str(uuid.UUID(int=value))
