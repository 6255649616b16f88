"""What holds for every entry: it is read or refused as malformed, and what was read comes back as it was written."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from toolspan.codec import (
    MAX_ID_CHARS,
    Codec,
    Limits,
    call_id_in,
    decode_attempts,
    decode_control,
    decode_dead_letter,
    decode_order,
    decode_record,
    dumps,
    replay_fields,
    trace_of,
)
from toolspan.errors import MalformedEntryError, TooLarge
from toolspan.keys import Keys
from toolspan.model import (
    NO_TRACE,
    Attempt,
    Control,
    DeadLetter,
    NewerCall,
    Order,
    Progress,
    Remembered,
    Reply,
    Succeeded,
    Timings,
    ToolCall,
    TraceFields,
)

if TYPE_CHECKING:
    from tests.fuzz.entries import Fields

LIMITS = Limits(args_bytes=2_048, nesting=8)
"""Small ones: what matters is what happens at them."""

ENTRY = "1795000000000-0"
KEYS = Keys()
CODEC = Codec(KEYS, LIMITS)


def check(fields: Fields) -> bool:
    """Give *fields* to every decoder; tells whether one of them could read it.

    Raises:
        AssertionError: if one gives what it should not.
        Exception: whatever one raises but for the one error that is promised.
    """
    read = [_check_call(fields), _check_reply(fields), _check_letter(fields)]
    _check_the_rest(fields)
    return any(read)


def _check_call(fields: Fields) -> bool:
    try:
        call = CODEC.decode_call(ENTRY, fields)
    except MalformedEntryError as exc:
        _check_refusal(exc)
        return False
    assert isinstance(call, ToolCall | NewerCall)
    if isinstance(call, NewerCall):
        return True
    assert call_id_in(ENTRY, fields) == call.id
    try:
        written = _wire(CODEC.encode_call(call))
    except TooLarge:
        # The same number may take more room: 1e9 is written as 1000000000.0.
        assert len(dumps(call.args)) > LIMITS.args_bytes or len(fields) > 6_000
    else:
        assert CODEC.decode_call(ENTRY, written) == call
    return True


def _check_refusal(refusal: MalformedEntryError) -> None:
    assert len(refusal.call_id) <= MAX_ID_CHARS
    assert refusal.reply_to is None or refusal.reply_to.startswith(KEYS.reply_prefix)


def _check_reply(fields: Fields) -> bool:
    try:
        reply = CODEC.decode_answer(fields)
    except MalformedEntryError:
        return False
    if isinstance(reply, Progress):
        return True
    assert isinstance(reply, Reply)
    again = CODEC.decode_reply(_reply_fields(reply))
    # Times are written to the microsecond.
    assert replace(again, timings=Timings()) == replace(reply, timings=Timings())
    assert CODEC.decode_reply(_reply_fields(again)) == again
    return True


def _reply_fields(reply: Reply) -> Fields:
    form, own = CODEC.encode_reply(
        call_id=reply.call_id,
        entry_id=reply.entry_id,
        outcome=reply.failure or Succeeded(dumps(reply.result)),
        attempt=reply.attempt,
        consumer=reply.consumer,
        timings=reply.timings,
        traceparent=reply.traceparent,
    )
    return _wire(form.filled(own))


def _check_letter(fields: Fields) -> bool:
    original = fields if len(fields) % 3 == 0 else None
    try:
        letter = decode_dead_letter("2-0", fields, original)
    except MalformedEntryError:
        return False
    assert isinstance(letter, DeadLetter)
    assert decode_dead_letter("2-0", _letter_fields(letter), letter.fields or None) == letter
    return True


def _letter_fields(letter: DeadLetter) -> Fields:
    """Write a dead letter down by PROTOCOL alone."""
    about = asdict(letter) | {
        "id": letter.entry_id,
        "first_delivered": letter.first_delivered_ms,
        "at": letter.at_ms,
        "attempts": json.dumps([_element(attempt) for attempt in letter.attempts]),
    }
    for name in ("entry_id", "first_delivered_ms", "at_ms", "fields"):
        del about[name]
    return [
        part for name, one in about.items() if one is not None for part in (f"dlq.{name}".encode(), str(one).encode())
    ]


def _element(attempt: Attempt) -> dict[str, Any]:
    found = {"consumer": attempt.consumer, "attempt": attempt.attempt, "start": attempt.start_ms}
    found |= {"end": attempt.end_ms, "error": attempt.error}
    return {name: value for name, value in found.items() if value is not None}


def _check_the_rest(fields: Fields) -> None:
    assert isinstance(trace_of(fields), TraceFields)
    with suppress(MalformedEntryError):
        assert isinstance(CODEC.decode_payload(fields), dict)
    with suppress(MalformedEntryError):
        assert isinstance(replay_fields(fields, call_id="c2", replay_of="2-0"), list)
    with suppress(MalformedEntryError, TooLarge):
        assert isinstance(CODEC.encode_replay(fields, call_id="c2", replay_of="2-0", trace=NO_TRACE), list)
    if len(fields) % 2 == 0:
        assert isinstance(decode_control(fields), Control)
    for part in fields[1:8:2]:
        assert isinstance(decode_attempts(part), list)
        assert isinstance(decode_order(part), Order)
        with suppress(MalformedEntryError):
            assert isinstance(decode_record(part), Remembered)


def _wire(fields: list[str | bytes]) -> Fields:
    """Give fields as Redis gives them back."""
    return [part if isinstance(part, bytes) else part.encode() for part in fields]
