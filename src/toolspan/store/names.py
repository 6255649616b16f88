"""Consumer names as text: others in the group may have chosen any bytes."""

from __future__ import annotations


def name_of(raw: bytes) -> str:
    """Give a name in the form in which the store takes it back, byte for byte."""
    return raw.decode(errors="surrogateescape")


def raw_of(name: str) -> bytes:
    """Give the bytes of what `name_of` gave, or of a key that was made of it."""
    return name.encode(errors="surrogateescape")


def printable(name: str) -> str:
    """Give what people may be shown of a name, and what lists of attempts call its consumer."""
    return raw_of(name).decode(errors="replace")
