"""What the fields of many entries have in common, so that it is packed and sent once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable


class Form:
    """Names and values of fields, in their order; None stands where every entry has a value of its own.

    Forms are told apart by identity: whoever makes them keeps them.
    """

    __slots__ = ("fields", "parts")

    def __init__(self, *fields: str | None) -> None:
        self.fields = fields
        blanks = [place for place, field in enumerate(fields, start=1) if field is None]
        self.parts = (len(fields), *(field or "" for field in fields), len(blanks), *blanks)
        """How many fields there are, these, how many of them each entry fills in by itself, and which, from 1 on."""

    def filled(self, values: Iterable[str | bytes]) -> list[str | bytes]:
        """Give the fields of an entry whose own *values* these are."""
        own = iter(values)
        return [next(own) if field is None else field for field in self.fields]


NOTHING: Final = Form()
"""The form of what has no fields at all."""
