"""What an entry may measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_ID_CHARS: Final = 256
MAX_KEY_CHARS: Final = 1_024
MAX_STACK_BYTES: Final = 16_384
MAX_TRACE_BYTES: Final = 8_192
"""A header longer than this is ignored, as W3C Baggage allows from here on."""

MAX_FIELDS: Final = 3_500
"""The scripts that write calls hand all fields of one over at once, and Lua's stack holds some 8000 values."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that are settings."""

    args_bytes: int = 262_144
    reply_bytes: int = 262_144
    nesting: int = 64


@dataclass(frozen=True, slots=True)
class Rules:
    """What the entries of one plane keep to: its limits, and what its reply streams' names start with."""

    reply_prefix: str
    limits: Limits
