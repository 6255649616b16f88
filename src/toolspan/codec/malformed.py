"""Why an entry cannot be decoded, with what can still be read of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from toolspan.codec.fields import PAYLOAD, trace_in
from toolspan.codec.legible import Legible, legible, legible_fields
from toolspan.codec.payload import is_payload, read_payload
from toolspan.errors import MalformedEntryError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolspan.codec.limits import Rules


def malformed(reason: str, values: Mapping[bytes, bytes], rules: Rules) -> MalformedEntryError:
    """Say why, with what a caller needs to be answered as far as it can be read."""
    found = _in_payload(values[PAYLOAD], rules) if is_payload(values) else legible_fields(values, rules)
    return MalformedEntryError(
        reason,
        call_id=found.call_id,
        reply_to=found.reply_to,
        tool=found.tool,
        trace=trace_in(values),
        idem=found.idem,
        principal=found.principal,
    )


def _in_payload(raw: bytes, rules: Rules) -> Legible:
    if len(raw) <= rules.limits.args_bytes:
        with suppress(ValueError):
            return legible(read_payload(raw, rules.limits), rules)
    return legible({}, rules)
