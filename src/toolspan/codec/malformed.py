"""What can still be read of an entry that cannot be decoded."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from toolspan.codec.fields import PAYLOAD, checked_id, checked_reply_to, checked_tool, text_in, trace_in
from toolspan.codec.payload import is_payload, read_payload
from toolspan.errors import MalformedEntryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from toolspan.codec.limits import Limits, Rules


def malformed(reason: str, values: Mapping[bytes, bytes], rules: Rules) -> MalformedEntryError:
    """Say why, with what a caller needs to be answered as far as it can be read."""
    found = _in_payload(values[PAYLOAD], rules.limits) if is_payload(values) else _in_fields(values)

    def valid(name: str, check: Callable[[str], str | None]) -> str | None:
        value = found.get(name)
        with suppress(ValueError):
            return check(value) if isinstance(value, str) else None
        return None

    return MalformedEntryError(
        reason,
        call_id=valid("id", checked_id) or "",
        reply_to=valid("reply_to", lambda text: checked_reply_to(text, rules.reply_prefix)),
        tool=valid("tool", checked_tool),
        trace=trace_in(values),
    )


def _in_payload(raw: bytes, limits: Limits) -> dict[str, Any]:
    if len(raw) <= limits.args_bytes:
        with suppress(ValueError):
            return read_payload(raw, limits)
    return {}


def _in_fields(values: Mapping[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("id", "reply_to", "tool"):
        with suppress(ValueError):
            found[name] = text_in(values, name.encode())
    return found
