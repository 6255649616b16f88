"""What operators may see of a call: everything but its arguments."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from toolspan.codec import Codec, Limits, trace_of
from toolspan.errors import MalformedEntryError
from toolspan.model import ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.settings import Settings

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class About:
    """One call. *malformed* says why the entry cannot be decoded, if so; the rest is what can be read of it."""

    call_id: str | None
    tool: str | None
    deadline_ms: int | None = None
    principal: str | None = None
    trace_id: str | None = None
    replay_of: str | None = None
    attempt_of: str | None = None
    malformed: str | None = None


def codec_of(settings: Settings) -> Codec:
    """Make the codec that workers with these settings use."""
    return Codec(settings.keys, Limits(settings.max_args_bytes, settings.max_reply_bytes, settings.max_nesting))


def about(codec: Codec, entry_id: str, fields: Sequence[bytes]) -> About:
    """Read the call of an entry, as far as it can be read."""
    try:
        call = codec.decode_call(entry_id, fields)
    except MalformedEntryError as exc:
        trace_id = trace_id_in(trace_of(fields).traceparent)
        return About(exc.call_id or None, exc.tool, trace_id=trace_id, malformed=str(exc))
    trace_id = trace_id_in(call.trace.traceparent)
    if isinstance(call, ToolCall):
        return About(call.id, call.tool, call.deadline_ms, call.principal, trace_id, call.replay_of, call.attempt_of)
    return About(call.id or None, call.tool, trace_id=trace_id, malformed=f"it is of version {call.version}")


def trace_id_in(traceparent: str | None) -> str | None:
    """Give the trace id of a header; None where there is none, or it is no trace context."""
    found = _TRACEPARENT.match(traceparent or "")
    return found[1] if found else None
