"""What can be read of an entry that is not decoded as a whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from toolspan.codec.fields import checked_id, checked_reply_to, checked_tool, text_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from toolspan.codec.limits import Rules


@dataclass(frozen=True, slots=True)
class Legible:
    """What a caller needs to be answered: *call_id* is empty, the others are None where nothing valid was found."""

    call_id: str
    reply_to: str | None
    tool: str | None
    idem: str | None
    principal: str | None


def legible(found: Mapping[str, Any], rules: Rules) -> Legible:
    """Take of *found*, names and what stands under them, what is valid."""

    def valid(name: str, check: Callable[[str], str | None]) -> str | None:
        value = found.get(name)
        with suppress(ValueError):
            return check(value) if isinstance(value, str) else None
        return None

    return Legible(
        valid("id", checked_id) or "",
        valid("reply_to", lambda text: checked_reply_to(text, rules.reply_prefix)),
        valid("tool", checked_tool),
        valid("idem", str),
        valid("principal", str),
    )


def legible_fields(values: Mapping[bytes, bytes], rules: Rules) -> Legible:
    """Take what is valid of the fields of an entry."""
    found: dict[str, Any] = {}
    for name in ("id", "reply_to", "tool", "idem", "principal"):
        with suppress(ValueError):
            found[name] = text_in(values, name.encode())
    return legible(found, rules)
