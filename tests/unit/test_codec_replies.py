"""A reply on the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolspan.codec import Codec, Limits, encode_outcome, encode_progress
from toolspan.errors import MalformedEntryError
from toolspan.keys import Keys
from toolspan.model import Failed, Progress, Reply, Succeeded, Timings

CODEC = Codec(Keys(), Limits())
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def reply(**changed: str | bytes) -> list[bytes]:
    """Give a good reply with some fields *changed*."""
    values: dict[str, str | bytes] = {"v": "1", "id": "c1", "entry": "1-0", "status": "ok", "result": "1", **changed}
    parts = [part for pair in values.items() for part in pair]
    return [part if isinstance(part, bytes) else part.encode() for part in parts]


def test_a_result_is_written_under_the_names_of_the_protocol() -> None:
    form, values = CODEC.encode_reply(
        call_id="c1",
        entry_id="1-0",
        outcome=Succeeded(b'{"n":1}'),
        attempt=2,
        consumer="w-1-abcd",
        timings=Timings(1.0, 0.25, None, 0.0004),
        traceparent=PARENT,
    )

    assert form.filled(values) == [
        *("v", "1", "id", "c1", "entry", "1-0", "status", "ok", "result", b'{"n":1}'),
        *("attempt", "2", "consumer", "w-1-abcd"),
        *("timings", b'{"queue":1.000,"admission":0.250,"settle":0.000}', "traceparent", PARENT),
    ]
    # The places of the id, the entry, the result, the timings and the trace, counted from 1.
    assert form.parts[-6:] == (5, 4, 6, 10, 16, 18)
    assert form.parts[:5] == (18, "v", "1", "id", "")


def test_a_failure_is_written_without_its_stack() -> None:
    form, values = CODEC.encode_reply(
        call_id="c1",
        entry_id="1-0",
        outcome=Failed("tool_error", "it broke", retryable=True, detail={"a": 1}, stack="secret"),
        attempt=1,
        consumer="w",
        timings=Timings(),
        traceparent=None,
    )

    assert form.filled(values) == [
        *("v", "1", "id", "c1", "entry", "1-0", "status", "error"),
        *("error", b'{"type":"tool_error","message":"it broke","retryable":true,"detail":{"a":1}}'),
        *("attempt", "1", "consumer", "w", "timings", b"{}"),
    ]


def test_every_field_of_a_reply_is_read() -> None:
    timings = '{"queue": 1, "admission": 2, "execute": 3, "settle": 4}'
    ok = reply(result="[]", attempt="2", consumer="w", timings=timings, traceparent=PARENT)
    assert CODEC.decode_answer(ok) == Reply("c1", "1-0", "ok", [], None, 2, "w", Timings(1.0, 2.0, 3.0, 4.0), PARENT)
    failure = '{"type": "timeout", "message": "m", "retryable": true, "detail": [1]}'
    assert CODEC.decode_answer(reply(status="error", error=failure)) == Reply(
        "c1", "1-0", "error", None, Failed("timeout", "m", retryable=True, detail=[1]), 0, "", Timings(), None
    )


def test_a_reply_of_an_older_worker_may_lack_nearly_all() -> None:
    assert CODEC.decode_reply([b"status", b"ok"]) == Reply("", "", "ok", None, None, 0, "", Timings(), None)
    assert CODEC.decode_answer([b"status", b"progress"]) == Progress("", "", None, 0, 0, "")


def test_progress_is_read_and_written_under_the_names_of_the_protocol() -> None:
    facts: dict[str, Any] = {"call_id": "c1", "entry_id": "1-0", "seq": 3, "attempt": 2, "consumer": "w"}
    fields = encode_progress(**facts, value=b"[1]", traceparent=PARENT)

    assert fields == [
        *("v", "1", "id", "c1", "entry", "1-0", "status", "progress", "result", b"[1]"),
        *("seq", "3", "attempt", "2", "consumer", "w", "traceparent", PARENT),
    ]
    wire = [part if isinstance(part, bytes) else part.encode() for part in fields]
    assert CODEC.decode_answer(wire) == Progress("c1", "1-0", [1], 3, 2, "w")
    assert len(encode_progress(**facts, value=b"1", traceparent=None)) == len(fields) - 2


@pytest.mark.parametrize("changed", [{"seq": "x"}, {"attempt": "x"}, {"result": "?"}, {"id": b"\xff"}])
def test_what_is_no_progress_is_malformed(changed: dict[str, str | bytes]) -> None:
    with pytest.raises(MalformedEntryError):
        CODEC.decode_answer(reply(**{"status": "progress", **changed}))


def test_what_a_reply_would_have_said_is_one_object() -> None:
    assert encode_outcome(Succeeded(b"[1]")) == b'{"status":"ok","result":[1]}'
    assert encode_outcome(Failed("timeout", "m")) == (
        b'{"status":"error","error":{"type":"timeout","message":"m","retryable":false,"detail":null}}'
    )


def test_the_times_of_all_phases_are_written_in_milliseconds() -> None:
    def written(timings: Timings) -> bytes:
        facts: dict[str, Any] = {"call_id": "c", "entry_id": "1-0", "attempt": 1, "consumer": "w", "traceparent": None}
        form, own = CODEC.encode_reply(**facts, outcome=Succeeded(b"1"), timings=timings)
        fields = form.filled(own)
        found = fields[fields.index("timings") + 1]
        assert isinstance(found, bytes)
        return found

    assert written(Timings(1, 2, 3, 4)) == b'{"queue":1.000,"admission":2.000,"execute":3.000,"settle":4.000}'
    for missing, name in enumerate(("queue", "admission", "execute", "settle")):
        times = [None if place == missing else 1.5 for place in range(4)]
        assert name not in json.loads(written(Timings(*times)))


def test_a_failure_of_a_type_that_we_do_not_know_is_one_of_ours() -> None:
    for raw in ('{"type": "brand_new", "message": "m"}', '{"type": ["timeout"], "message": "m"}', '{"message": "m"}'):
        assert CODEC.decode_reply(reply(status="error", error=raw)).failure == Failed("worker_error", "m")


@pytest.mark.parametrize(
    "changed",
    [
        {"status": "fine"},
        {"status": "fine", "error": "{}"},
        {"status": b"\xff"},
        {"result": "?"},
        {"result": "NaN"},
        {"result": "1e999"},
        {"result": "[" * 100_000},
        {"status": "error"},
        {"status": "error", "error": "[]"},
        {"status": "error", "error": '{"detail": ' + "[" * 100_000},
        {"attempt": "first"},
        {"id": b"\xff"},
        {"timings": "[]"},
        {"timings": f'{{"queue": {10**400}}}'},
    ],
)
def test_what_is_no_reply_is_malformed(changed: dict[str, str | bytes]) -> None:
    with pytest.raises(MalformedEntryError):
        CODEC.decode_reply(reply(**changed))


def test_a_reply_without_a_status_is_malformed() -> None:
    with pytest.raises(MalformedEntryError):
        CODEC.decode_reply([b"id", b"c1"])


def test_a_caller_reads_replies_that_are_deeper_than_it_may_send() -> None:
    strict = Codec(Keys(), Limits(nesting=1))

    assert strict.decode_reply(reply(result="[" * 200 + "]" * 200)).result
    with pytest.raises(MalformedEntryError):
        strict.decode_reply(reply(result="[" * 201 + "]" * 201))


def test_a_reply_that_only_speaks_of_progress_is_none() -> None:
    assert isinstance(CODEC.decode_answer(reply(consumer="progress")), Reply)
    assert isinstance(CODEC.decode_answer(reply(progress="ok")), Reply)


def test_timings_that_are_no_numbers_are_left_out() -> None:
    timings = CODEC.decode_reply(reply(timings='{"queue": "1", "execute": 2, "other": 3}')).timings

    assert timings == Timings(execute=2.0)


def test_the_trace_of_a_reply_can_be_named() -> None:
    assert CODEC.decode_reply(reply(traceparent=PARENT)).trace_id == "a" * 32
    assert CODEC.decode_reply(reply()).trace_id is None


def test_what_is_no_object_in_a_reply_is_named() -> None:
    for changed, told in (
        ({"status": "error", "error": "[]"}, "error is not a JSON object"),
        ({"timings": "[]"}, "timings is not a JSON object"),
        ({"timings": '{"a": {"b": []}}'}, "nested deeper than 2 levels"),
    ):
        with pytest.raises(MalformedEntryError, match=told):
            CODEC.decode_reply(reply(**changed))
    assert CODEC.decode_reply(reply(timings='{"a": []}')).timings == Timings()
