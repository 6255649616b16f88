"""A dead letter on the wire, and the call that its replay makes."""

from __future__ import annotations

from typing import Any

import pytest

from toolspan.codec import (
    MAX_FIELDS,
    Codec,
    Limits,
    dead_letter_fields,
    decode_attempts,
    decode_dead_letter,
    fingerprint,
    replay_fields,
)
from toolspan.errors import MalformedEntryError, TooLarge
from toolspan.keys import Keys
from toolspan.model import NO_TRACE, Attempt, DeadLetter, Failed, ToolCall, TraceFields

CODEC = Codec(Keys(), Limits())

ABOUT = {
    "dlq.id": "1-0",
    "dlq.reason": "worker_lost",
    "dlq.error_type": "quarantined",
    "dlq.error_message": "lost",
    "dlq.consumer": "w",
    "dlq.at": "5",
    "dlq.fingerprint": "f",
}


def letter(**changed: str | None) -> list[bytes]:
    """Give a good dead letter with some `dlq.` fields *changed*, or left out if None."""
    values = ABOUT | {f"dlq.{name}": value for name, value in changed.items()}
    return [part.encode() for name, value in values.items() if value is not None for part in (name, value)]


def written(**changed: Any) -> dict[str, str | bytes]:
    """Give what a worker writes about a failure."""
    facts: dict[str, Any] = {
        "entry_id": "1-0",
        "reason": "tool_failed",
        "tool": "echo",
        "failure": Failed("tool_error", "it broke"),
        "consumer": "w",
        "traceparent": None,
        **changed,
    }
    fields = dead_letter_fields(**facts)
    return dict(zip(map(str, fields[::2]), fields[1::2], strict=True))


def test_a_worker_writes_what_it_knows_under_the_names_of_the_protocol() -> None:
    fields = written(failure=Failed("tool_error", "it broke", stack="line"), traceparent="00-x", reply=b"1")

    assert fields == {
        "dlq.id": "1-0",
        "dlq.reason": "tool_failed",
        "dlq.error_type": "tool_error",
        "dlq.error_message": b"it broke",
        "dlq.consumer": "w",
        "dlq.fingerprint": fingerprint("echo", "tool_failed", "tool_error", "it broke"),
        "dlq.stack": b"line",
        "dlq.traceparent": "00-x",
        "dlq.reply": b"1",
    }


def test_what_is_not_known_is_not_written() -> None:
    assert not {"dlq.stack", "dlq.traceparent", "dlq.reply"} & written().keys()


def test_a_stack_is_cut_and_half_surrogates_do_no_harm() -> None:
    fields = written(failure=Failed("tool_error", "\ud800", stack="\ud800" * 20_000))

    assert fields["dlq.stack"] == b"?" * 16_384
    assert fields["dlq.error_message"] == b"?"


def test_the_fields_of_the_original_stand_apart_from_ours() -> None:
    fields = [b"v", b"1", b"\xff", b"\x00", *letter(), b"v", b"2"]

    assert decode_dead_letter("2-0", fields, None).fields == [b"v", b"1", b"\xff", b"\x00", b"v", b"2"]


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"reason": None},
        {"at": None},
        {"at": "yesterday"},
        {"first_delivered": "?"},
    ],
)
def test_what_no_worker_wrote_is_malformed(changed: dict[str, str | None]) -> None:
    with pytest.raises(MalformedEntryError, match="2-0 is not a dead letter of ours"):
        decode_dead_letter("2-0", letter(**changed), None)


def test_an_odd_number_of_parts_is_malformed() -> None:
    with pytest.raises(MalformedEntryError):
        decode_dead_letter("2-0", [*letter(), b"more"], None)
    with pytest.raises(MalformedEntryError):
        replay_fields([b"v"], call_id="c2", replay_of="2-0")


def test_attempts_are_read_oldest_first() -> None:
    raw = (
        '[{"consumer":"a","attempt":1,"start":5,"end":6,"error":"worker_lost"},{"consumer":"b","attempt":2,"start":7}]'
    )

    assert decode_attempts(raw) == [Attempt("a", 1, 5, 6, "worker_lost"), Attempt("b", 2, 7)]
    assert decode_attempts(None) == []


@pytest.mark.parametrize(
    "raw",
    [
        *(
            b"",
            b"?",
            b"1",
            b"null",
            b'"text"',
            b'{"a": 1}',
            b"[1, null, [], {}]",
            b'[{"consumer": "w", "attempt": 1, "start": [1]}]',
            b'[{"consumer": "w"}]',
        ),
        *(b'[{"consumer": "w", "attempt": 1e999, "start": 1}]', b'[{"consumer": "w", "attempt": "x", "start": 1}]'),
        *(b'[{"consumer": "w", "attempt": 1, "start": NaN}]', b"\xff", b"[" * 100_000),
    ],
)
def test_what_is_no_attempt_is_left_out(raw: bytes) -> None:
    assert decode_attempts(raw) == []
    assert decode_dead_letter("2-0", [*letter(), b"dlq.attempts", raw], None).attempts == []


def test_attempts_beside_what_is_none_are_read() -> None:
    raw = b'[null, {"consumer":"caf\xe9","attempt":1,"start":5,"end":null,"error":7}]'

    assert decode_attempts(raw) == [Attempt("caf\ufffd", 1, 5)]


def test_a_fingerprint_tells_causes_apart() -> None:
    base = ("echo", "tool_failed", "tool_error", "no such file")
    others = [(*base[:place], "other", *base[place + 1 :]) for place in range(4)]

    assert len({fingerprint(*cause) for cause in (base, *others)}) == 5
    assert fingerprint("echo", "r", "e", "at 0x7f1c9a\n  line 12") == fingerprint("echo", "r", "e", "at 0x55 line 7")


def test_numbers_ids_and_white_space_are_no_difference_and_all_else_is() -> None:
    def of(message: str) -> str:
        return fingerprint("echo", "r", "e", message)

    same = (
        "id 0x0",
        "id 0xfF9",
        "id 0",
        "id 9",
        "id 190",
        "id 0x9",
        "id deadbeef",
        "id a9999999b",
        "id DEADBEEF0",
        "id  1",
        "id\n\t1",
    )
    assert {of(message) for message in same} == {of("id 7")}
    apart = ("id deadbee", "id 0y1", "id1", " id 1", "id #1", "id#7", "id ", "id x", "idx 1", "")
    assert len({of(message) for message in (*apart, "id 7")}) == len(apart) + 1
    assert len(of("")) == 16


def test_every_field_of_a_dead_letter_is_read() -> None:
    about = {"first_delivered": "4", "stack": "s", "traceparent": "t", "reply": "r"}
    attempts = '[{"consumer":"w","attempt":1,"start":4}]'
    found = decode_dead_letter("2-0", [b"x", b"y", *letter(**about, attempts=attempts)], None)

    assert found == DeadLetter(
        id="2-0",
        entry_id="1-0",
        reason="worker_lost",
        error_type="quarantined",
        error_message="lost",
        stack="s",
        attempts=[Attempt("w", 1, 4)],
        consumer="w",
        first_delivered_ms=4,
        at_ms=5,
        fingerprint="f",
        traceparent="t",
        reply="r",
        fields=[b"x", b"y"],
    )
    assert decode_dead_letter("2-0", letter(), None).first_delivered_ms is None


def test_an_entry_that_was_kept_whole_wins_over_what_stands_beside() -> None:
    for fields in (letter(), [b"dlq.raw", b"?", *letter()]):
        assert decode_dead_letter("2-0", [b"x", b"y", *fields], [b"v", b"1"]).fields == [b"v", b"1"]


def test_a_replay_is_answered_to_whom_it_is_said() -> None:
    own = [b"v", b"1", b"id", b"c1", b"reply_to", b"sg:reply:g"]
    fields = replay_fields(own, call_id="c2", replay_of="2-0", reply_to="sg:reply:o")
    payload = replay_fields([b"payload", b'{"reply_to":"x"}'], call_id="c2", replay_of="2-0", reply_to="sg:reply:o")

    assert fields == ["v", b"1", "id", "c2", "replay_of", "2-0", "reply_to", "sg:reply:o"]
    assert payload == ["payload", b'{"id":"c2","replay_of":"2-0","reply_to":"sg:reply:o"}']


def test_a_replay_leaves_out_what_belonged_to_the_first_call() -> None:
    own = {"v": "1", "id": "c1", "tool": "echo", "args": "{}", "principal": "alice", "meta.a": "b", "x": "y"}
    gone = {
        "reply_to": "sg:reply:g",
        "deadline": "5",
        "idem": "k",
        "replay_of": "1-1",
        "traceparent": "t",
        "baggage": "b",
    }
    fields = replay_fields(
        [part.encode() for pair in (own | gone).items() for part in pair], call_id="c2", replay_of="2-0"
    )

    kept = [part.encode() for name in ("tool", "args", "principal", "meta.a", "x") for part in (name, own[name])]
    assert fields == ["v", b"1", "id", "c2", *kept, "replay_of", "2-0"]


def test_a_replay_keeps_the_version_that_the_call_was_written_in() -> None:
    fields = replay_fields([b"v", b"2", b"id", b"c1", b"body", b"?"], call_id="c2", replay_of="2-0")

    assert fields[:2] == ["v", b"2"]


def test_a_replay_of_a_payload_stays_a_payload() -> None:
    raw = b'{"id": "c1", "v": 1, "tool": "echo", "args": {"n": 1}, "reply_to": "sg:reply:g", "deadline": 5, "x": null}'
    fields = replay_fields([b"payload", raw, b"y", b"\xff", b"traceparent", b"t"], call_id="c2", replay_of="2-0")

    assert fields == [
        "payload",
        b'{"v":1,"tool":"echo","args":{"n":1},"x":null,"id":"c2","replay_of":"2-0"}',
        *(b"y", b"\xff"),
    ]


@pytest.mark.parametrize("raw", [b"[]", b"?", b'{"a": NaN}', b"[" * 100_000])
def test_a_payload_that_is_no_json_object_cannot_be_replayed(raw: bytes) -> None:
    with pytest.raises(MalformedEntryError):
        replay_fields([b"payload", raw], call_id="c2", replay_of="2-0")


@pytest.mark.parametrize("original", [None, [], [1, 2], [b"v", [b"1"]], [b"v", b"1", 7], [b"v"]])
def test_a_whole_entry_that_cannot_be_unpacked_is_malformed(original: list[Any] | None) -> None:
    with pytest.raises(MalformedEntryError, match=r"dlq\.raw cannot be unpacked"):
        decode_dead_letter("2-0", [b"dlq.raw", b"?", *letter()], original)


def test_a_replay_takes_up_the_new_trace() -> None:
    fields = [b"v", b"1", b"id", b"c1", b"tool", b"echo", b"args", b"{}", b"baggage", b"old"]
    replayed = CODEC.encode_replay(fields, call_id="c2", replay_of="2-0", trace=TraceFields("t", None, "new"))

    assert replayed[-6:] == ["replay_of", "2-0", "traceparent", "t", "baggage", "new"]


def test_a_payload_that_outgrows_its_limit_by_being_replayed_is_refused_before() -> None:
    size = CODEC.limits.args_bytes - len(b'{"tool":"echo","args":{"x":""}}')
    raw = b'{"tool":"echo","args":{"x":"%s"}}' % (b"a" * size)
    assert isinstance(CODEC.decode_call("1-0", [b"payload", raw]), ToolCall)

    with pytest.raises(MalformedEntryError, match="262144 are allowed"):
        CODEC.encode_replay([b"payload", raw], call_id="c2", replay_of="2-0", trace=NO_TRACE)


def test_a_replay_of_more_fields_than_a_script_can_write_is_refused() -> None:
    own = [b"v", b"1", b"id", b"c1", b"tool", b"echo", b"args", b"{}"]
    most = [part for number in range(MAX_FIELDS - 5) for part in (b"x%d" % number, b"")]
    replayed = CODEC.encode_replay([*own, *most], call_id="c2", replay_of="2-0", trace=NO_TRACE)
    assert len(replayed) == 2 * MAX_FIELDS

    with pytest.raises(TooLarge):
        CODEC.encode_replay([*own, *most, b"y", b""], call_id="c2", replay_of="2-0", trace=NO_TRACE)


def test_a_call_of_a_higher_version_can_be_replayed() -> None:
    replayed = CODEC.encode_replay([b"v", b"2", b"body", b"?"], call_id="c2", replay_of="2-0", trace=NO_TRACE)

    assert replayed == ["v", b"2", "id", "c2", b"body", b"?", "replay_of", "2-0"]
