"""What holds for every entry: it comes back as it was written, or is refused as malformed and in no other way."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from toolspan.codec import (
    Codec,
    Limits,
    decode_attempts,
    decode_dead_letter,
    fingerprint,
    nested_within,
    replay_fields,
    trace_of,
)
from toolspan.errors import MalformedEntryError, TooLarge
from toolspan.keys import Keys
from toolspan.model import (
    Attempt,
    DeadLetter,
    Failed,
    NewerCall,
    Outcome,
    Reply,
    Succeeded,
    Timings,
    ToolCall,
    TraceFields,
)

CODEC = Codec(Keys(), Limits())
ENTRY = "1795000000000-0"
often = settings(deadline=None, max_examples=200)

text = st.text(max_size=30)
optional = st.none() | text
milliseconds = st.integers(0, 10**15 - 1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=15,
)
arguments = st.dictionaries(text, values, max_size=5)
headers = st.none() | st.text(st.characters(max_codepoint=0x7E, min_codepoint=0x20), min_size=1, max_size=60)
calls = st.builds(
    ToolCall,
    id=st.text(min_size=1, max_size=256),
    tool=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", fullmatch=True),
    args=arguments,
    reply_to=st.none() | text.map("sg:reply:".__add__),
    deadline_ms=st.none() | milliseconds,
    idem=optional,
    trace=st.builds(TraceFields, headers, headers, headers),
    tool_call_id=optional,
    principal=optional,
    attempt_of=optional,
    replay_of=optional,
    meta=st.dictionaries(text, text, max_size=3),
)
failures = st.builds(
    Failed,
    type=st.sampled_from(["tool_error", "timeout", "malformed", "worker_error", "outcome_unknown"]),
    message=text,
    retryable=st.booleans(),
    detail=values,
)

# Bytes that are nearly right break more than bytes that are not right at all.
NAMES = b"v id tool args reply_to deadline idem traceparent payload meta.x status result error attempt timings".split()
GOOD = [b"1", b"c1", b"echo", b"{}", b"sg:reply:g", b"99", b"ok", b"error", b"null", b'{"type": "timeout"}', b"[]"]
soup = st.lists(
    st.sampled_from(
        [*'{}[]",:\\', "u0074ool", "tool", "args", "id", "v", "1", "1e999", "NaN", "null", "true", " ", "\n"]
    ),
    max_size=30,
).map(lambda parts: "".join(parts).encode())
bodies = st.dictionaries(
    st.sampled_from([name.decode() for name in NAMES] + ["meta", "type", "message", "queue", "settle"]),
    values | arguments | st.integers(10**300, 10**400) | text.map("sg:reply:".__add__),
).map(lambda body: json.dumps(body).encode())
pieces = st.binary(max_size=20) | st.sampled_from(NAMES + GOOD) | soup | bodies
entries = (
    st.lists(pieces, max_size=13)
    | st.dictionaries(st.sampled_from(NAMES), pieces).map(
        lambda found: [part for pair in found.items() for part in pair]
    )
    | (soup | bodies).map(lambda raw: [b"payload", raw])
)

# Laid out as our own encoder does it, whatever the values are.
ORDER = b"v id tool args reply_to deadline traceparent tracestate baggage".split()
RIGHT = [b"1", b"c1", b"echo", b'{"n":1e2}', b"sg:reply:g", b"99", b"00-1-2-01", b"a=b", b"c=d"]
usual = st.integers(3, len(ORDER)).flatmap(
    lambda count: st.tuples(*(st.just(RIGHT[i]) | pieces for i in range(count))).map(
        lambda parts: [part for pair in zip(ORDER, parts, strict=False) for part in pair]
    )
)


def wire(fields: list[str | bytes]) -> list[bytes]:
    """Give fields as Redis gives them back."""
    return [part if isinstance(part, bytes) else part.encode() for part in fields]


@often
@given(calls)
def test_a_call_comes_back_as_it_was_sent(call: ToolCall) -> None:
    assert CODEC.decode_call(ENTRY, wire(CODEC.encode_call(call))) == call


@often
@given(usual)
def test_the_order_of_its_fields_says_nothing_about_a_call(fields: list[bytes]) -> None:
    turned = [part for i in reversed(range(0, len(fields), 2)) for part in fields[i : i + 2]]

    assert decoded(fields) == decoded(turned)


def decoded(fields: list[bytes]) -> object:
    """Give the call, or why it is malformed and whom to answer."""
    try:
        return CODEC.decode_call(ENTRY, fields)
    except MalformedEntryError as exc:
        return str(exc), exc.call_id, exc.tool, exc.reply_to


@often
@given(calls)
def test_a_call_of_the_older_form_comes_back_as_it_was_sent(call: ToolCall) -> None:
    names = {"id", "tool", "args", "reply_to", "idem", "tool_call_id", "principal", "attempt_of", "replay_of", "meta"}
    body = {name: getattr(call, name) for name in names} | {"deadline": call.deadline_ms}
    body |= {name: getattr(call.trace, name) for name in ("traceparent", "tracestate", "baggage")}

    assert CODEC.decode_call(ENTRY, [b"payload", json.dumps(body).encode()]) == call


@often
@given(failures | values.map(lambda value: Succeeded(json.dumps(value).encode())), headers, st.integers(1, 99), text)
def test_a_reply_comes_back_as_it_was_sent(
    outcome: Outcome, traceparent: str | None, attempt: int, consumer: str
) -> None:
    timings = Timings(0.125, None, 3.5, 0.0)
    form, values = CODEC.encode_reply(
        call_id="c1",
        entry_id=ENTRY,
        outcome=outcome,
        attempt=attempt,
        consumer=consumer,
        timings=timings,
        traceparent=traceparent,
    )

    ok = isinstance(outcome, Succeeded)
    result = json.loads(outcome.result) if isinstance(outcome, Succeeded) else None
    failure = outcome if isinstance(outcome, Failed) else None
    assert CODEC.decode_reply(wire(form.filled(values))) == Reply(
        *("c1", ENTRY, "ok" if ok else "error", result, failure, attempt, consumer, timings, traceparent)
    )


attempts = st.lists(
    st.builds(Attempt, text, st.integers(1, 99), milliseconds, st.none() | milliseconds, st.none() | text), max_size=4
)
letters = st.builds(
    DeadLetter,
    id=st.just("2-0"),
    entry_id=text,
    reason=text,
    error_type=text,
    error_message=text,
    stack=optional,
    attempts=attempts,
    consumer=text,
    first_delivered_ms=st.none() | milliseconds,
    at_ms=milliseconds,
    fingerprint=text,
    traceparent=optional,
    reply=optional,
    fields=st.lists(st.binary(max_size=9), max_size=8).filter(lambda parts: len(parts) % 2 == 0),
)


def written(letter: DeadLetter) -> list[bytes]:
    """Give the `dlq.*` fields of a letter, by PROTOCOL alone."""
    elements = [
        {"consumer": one.consumer, "attempt": one.attempt, "start": one.start_ms}
        | ({} if one.end_ms is None else {"end": one.end_ms})
        | ({} if one.error is None else {"error": one.error})
        for one in letter.attempts
    ]
    about = {
        "id": letter.entry_id,
        "reason": letter.reason,
        "error_type": letter.error_type,
        "error_message": letter.error_message,
        "stack": letter.stack,
        "attempts": json.dumps(elements),
        "consumer": letter.consumer,
        "first_delivered": letter.first_delivered_ms,
        "at": letter.at_ms,
        "fingerprint": letter.fingerprint,
        "traceparent": letter.traceparent,
        "reply": letter.reply,
    }
    return [
        part
        for name, value in about.items()
        if value is not None
        for part in (f"dlq.{name}".encode(), str(value).encode())
    ]


@often
@given(letters.filter(lambda letter: not any(name.startswith(b"dlq.") for name in letter.fields[::2])))
def test_a_dead_letter_comes_back_as_it_was_written(letter: DeadLetter) -> None:
    assert decode_dead_letter("2-0", [*letter.fields, *written(letter)], None) == letter


@often
@given(letters)
def test_a_dead_letter_that_was_kept_whole_comes_back_with_every_field(letter: DeadLetter) -> None:
    kept = [*letter.fields, b"dlq.id", b"not ours"]

    assert decode_dead_letter("2-0", written(letter), kept).fields == kept


@settings(deadline=None, max_examples=500)
@given(entries)
def test_no_bytes_do_more_than_be_malformed(fields: list[bytes]) -> None:
    with suppress(MalformedEntryError):
        assert isinstance(CODEC.decode_call(ENTRY, fields), ToolCall | NewerCall)
    with suppress(MalformedEntryError):
        assert isinstance(CODEC.decode_payload(fields), dict)
    with suppress(MalformedEntryError):
        assert isinstance(CODEC.decode_reply(fields), Reply)
    with suppress(MalformedEntryError):
        assert isinstance(decode_dead_letter("2-0", fields, None), DeadLetter)
    with suppress(MalformedEntryError):
        assert replay_fields(fields, call_id="c2", replay_of="2-0")
    assert isinstance(trace_of(fields), TraceFields)


@often
@given(calls, st.data())
def test_a_good_call_with_bytes_exchanged_is_read_or_malformed(call: ToolCall, data: st.DataObject) -> None:
    fields = wire(CODEC.encode_call(call))
    place = data.draw(st.integers(0, len(fields) - 1))
    fields[place] = data.draw(pieces | st.binary(max_size=3).map(lambda more: fields[place][:-1] + more))

    with suppress(MalformedEntryError):
        assert isinstance(CODEC.decode_call(ENTRY, fields), ToolCall | NewerCall)


@often
@given(bodies, pieces, st.sampled_from([b"ok", b"error"]))
def test_a_good_reply_with_other_values_is_read_or_malformed(body: bytes, piece: bytes, status: bytes) -> None:
    fields = [b"status", status, b"result", piece, b"error", body, b"attempt", piece, b"timings", body]

    with suppress(MalformedEntryError):
        assert isinstance(CODEC.decode_reply(fields), Reply)


@often
@given(entries)
def test_what_was_decoded_once_can_be_sent_again(fields: list[bytes]) -> None:
    with suppress(MalformedEntryError, TooLarge):
        call = CODEC.decode_call(ENTRY, fields)
        if isinstance(call, ToolCall):
            assert CODEC.decode_call(ENTRY, wire(CODEC.encode_call(call))) == call


@often
@given(pieces)
def test_a_list_of_attempts_is_read_whatever_it_is(raw: bytes) -> None:
    assert isinstance(decode_attempts(raw), list)


@often
@given(values, st.integers(0, 5))
def test_levels_are_counted_as_a_decoder_meets_them(value: Any, limit: int) -> None:
    def depth(one: Any) -> int:
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    assert nested_within(json.dumps(value).encode(), limit) == (depth(value) <= limit)


@often
@given(text, st.integers(0, 10**12), st.uuids())
def test_causes_that_differ_only_in_numbers_and_ids_have_one_fingerprint(words: str, number: int, ident: Any) -> None:
    one = fingerprint("echo", "tool_failed", "tool_error", f"{words} at {number}: {ident.hex}")
    other = fingerprint("echo", "tool_failed", "tool_error", f"{words} at 7:   {'0f' * 16}")

    assert one == other
