"""Bytes that are the same again and again, but for some blanks; all of these are filled in at once."""

from __future__ import annotations

from struct import Struct, calcsize
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from toolspan.telemetry.otlp.wire import varint

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOTHING: Final = b""


class Blank:
    """A place for a value that is packed as *code* says, see `struct`; in little-endian order."""

    __slots__ = ("code", "size")

    def __init__(self, code: str) -> None:
        self.code = code
        self.size = calcsize(f"<{code}")


Part: TypeAlias = bytes | Blank


class Pattern:
    """Constant bytes and blanks, in any order."""

    __slots__ = ("_pack", "_parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        # Constants and blanks take turns from here on, so that one step puts all values in their places.
        turns: list[Any] = [_NOTHING]
        codes: list[str] = []
        for part in parts:
            if isinstance(part, bytes):
                turns[-1] += part
            else:
                codes += (f"{len(turns[-1])}s", part.code)
                turns += (None, _NOTHING)
        self._parts = turns
        self._pack = Struct(f"<{''.join(codes)}{len(turns[-1])}s").pack

    def filled(self, values: Sequence[Any]) -> bytes:
        """Give the bytes with *values* in the blanks, in their order.

        Raises:
            ValueError: if there are more or fewer of them.
            struct.error: if one cannot be packed as its blank says.
        """
        parts = self._parts.copy()
        parts[1::2] = values
        return self._pack(*parts)


def framed(head: bytes, parts: Sequence[Part]) -> list[Part]:
    """Write a field of *parts*, *head* being its tag, with its length in front; also an empty one."""
    size = sum(len(part) if isinstance(part, bytes) else part.size for part in parts)
    return [head + varint(size), *parts]
