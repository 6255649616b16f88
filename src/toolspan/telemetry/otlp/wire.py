"""Protocol buffers as they lie on the wire, as far as OTLP needs them; https://protobuf.dev/programming-guides/encoding/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final

DOUBLE: Final = Struct("<d").pack
FIXED64: Final = Struct("<Q").pack
FIXED32: Final = Struct("<I").pack


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL: Final = tuple(_varint(number) for number in range(4096))
_BITS: Final = 64


def varint(number: int) -> bytes:
    """Write a whole number; a negative one as its 64 bits.

    Raises:
        ValueError: if it has more than 64.
    """
    if 0 <= number < len(_SMALL):
        return _SMALL[number]
    if not -(1 << _BITS - 1) <= number < 1 << _BITS:
        message = f"{number} has more than {_BITS} bits"
        raise ValueError(message)
    return _varint(number & (1 << _BITS) - 1)


def tag(field: int, kind: int) -> bytes:
    """Write the number of a field and the *kind* of what follows: 0 varint, 1 fixed64, 2 bytes, 5 fixed32."""
    return varint(field << 3 | kind)


def sized(head: bytes, body: bytes) -> bytes:
    """Write a field of bytes, *head* being its tag; also an empty one."""
    return head + varint(len(body)) + body


def text(words: str) -> bytes:
    """Give *words* as UTF-8. Half surrogates are none: each becomes a question mark, and harms nobody else."""
    try:
        return words.encode()
    except UnicodeEncodeError:
        return words.encode(errors="replace")


_KEY: Final = tag(1, 2)
_VALUE: Final = tag(2, 2)
_OF_LIST: Final = tag(1, 2)
_STRING, _BOOL, _INT, _DOUBLE, _ARRAY, _PAIRS, _BYTES = (
    tag(field, kind) for field, kind in ((1, 2), (2, 0), (3, 0), (4, 1), (5, 2), (6, 2), (7, 2))
)


def any_value(value: Any) -> bytes:  # noqa: PLR0911 - one for each kind of value
    """Write an `AnyValue`.

    Raises:
        ValueError: if it cannot be one.
    """
    match value:
        case None:
            return b""
        case bool():
            return _BOOL + varint(value)
        case str():
            return sized(_STRING, text(value))
        case int():
            if value >= 1 << _BITS - 1:
                message = f"{value} is more than a signed whole number can be"
                raise ValueError(message)
            return _INT + varint(value)
        case float():
            return _DOUBLE + DOUBLE(value)
        case bytes():
            return sized(_BYTES, value)
        case Sequence():
            return sized(_ARRAY, b"".join(sized(_OF_LIST, any_value(one)) for one in value))
        case Mapping():
            return sized(_PAIRS, b"".join(sized(_OF_LIST, pair(str(name), one)) for name, one in value.items()))
    message = f"a {type(value).__name__} is no value of an attribute"
    raise ValueError(message)


@lru_cache(4096)
def key(name: str) -> bytes:
    """Write the *name* in a `KeyValue`, with the tag of the value that follows."""
    return (sized(_KEY, text(name)) if name else b"") + _VALUE


def pair(name: str, value: Any) -> bytes:
    """Write a `KeyValue`."""
    written = any_value(value)
    return key(name) + varint(len(written)) + written
