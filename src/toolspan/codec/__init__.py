"""Stream fields to and from the model: the wire format, version 1, and its limits."""

from __future__ import annotations

from toolspan.codec.control import decode_control, decode_order
from toolspan.codec.dead_letters import (
    dead_letter_fields,
    decode_attempts,
    decode_dead_letter,
    fingerprint,
    replay_fields,
)
from toolspan.codec.entries import Codec
from toolspan.codec.fields import CALL_FIELDS, CONTROLS, TOOL_NAME, TRACE_FIELDS, VERSION, is_one_line, trace_of
from toolspan.codec.forms import NOTHING, Form
from toolspan.codec.json import NotJsonError, dumps, loads, nested_within
from toolspan.codec.limits import MAX_FIELDS, MAX_ID_CHARS, MAX_KEY_CHARS, MAX_STACK_BYTES, MAX_TRACE_BYTES, Limits
from toolspan.codec.once import FORGOTTEN, decode_record, encode_remembered, once_digest, once_key
from toolspan.codec.peek import call_id_in
from toolspan.codec.replies import encode_outcome, encode_progress

__all__ = [
    "CALL_FIELDS",
    "CONTROLS",
    "FORGOTTEN",
    "MAX_FIELDS",
    "MAX_ID_CHARS",
    "MAX_KEY_CHARS",
    "MAX_STACK_BYTES",
    "MAX_TRACE_BYTES",
    "NOTHING",
    "TOOL_NAME",
    "TRACE_FIELDS",
    "VERSION",
    "Codec",
    "Form",
    "Limits",
    "NotJsonError",
    "call_id_in",
    "dead_letter_fields",
    "decode_attempts",
    "decode_control",
    "decode_dead_letter",
    "decode_order",
    "decode_record",
    "dumps",
    "encode_outcome",
    "encode_progress",
    "encode_remembered",
    "fingerprint",
    "is_one_line",
    "loads",
    "nested_within",
    "once_digest",
    "once_key",
    "replay_fields",
    "trace_of",
]
