"""Names and bounds on the wire, written down once more: whoever changes one breaks programs that are not ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolspan.codec import MAX_FIELDS, MAX_STACK_BYTES, Codec, Limits, call_id_in, is_one_line, trace_of
from toolspan.errors import MalformedEntryError
from toolspan.keys import Keys
from toolspan.model import NewerCall, ToolCall, TraceFields

CODEC = Codec(Keys(), Limits(args_bytes=100))
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"

CALL = {"v": "1", "id": "c1", "tool": "echo", "args": "{}"}
ANSWERED = {"reply_to": "sg:reply:g", "deadline": "5"}
TRACED = {"traceparent": PARENT, "tracestate": "a=b", "baggage": "c=d"}
MORE = {"idem": "k", "tool_call_id": "t", "principal": "p", "attempt_of": "a", "replay_of": "r"}


def fields(*some: dict[str, str]) -> list[bytes]:
    return [part.encode() for values in some for pair in values.items() for part in pair]


def read(*some: dict[str, str]) -> ToolCall:
    call = CODEC.decode_call("1-1", fields(*some))
    assert isinstance(call, ToolCall)
    return call


def refused(*some: dict[str, str]) -> str:
    with pytest.raises(MalformedEntryError) as caught:
        CODEC.decode_call("1-1", fields(*some))
    return str(caught.value)


@pytest.mark.parametrize("entry", [CALL, {"payload": '{"tool":"echo","args":{}}'}])
def test_whom_to_answer_is_told_of_what_is_malformed(entry: dict[str, str]) -> None:
    facts = {"id": "c1", "tool": "echo", "reply_to": "sg:reply:g", "idem": "k", "principal": "p"}
    body = {"payload": json.dumps(facts | {"args": 7})} if "payload" in entry else CALL | facts | {"args": "7"}
    with pytest.raises(MalformedEntryError) as caught:
        CODEC.decode_call("1-1", fields(body))
    told = caught.value

    assert (told.call_id, told.tool, told.reply_to, told.idem, told.principal) == tuple(facts.values())


def test_nothing_is_told_of_a_payload_that_is_too_large() -> None:
    def told(size: int) -> str:
        body = '{"id":"c1","tool":"-"}'
        with pytest.raises(MalformedEntryError) as caught:
            CODEC.decode_call("1-1", fields({"payload": body.ljust(size)}))
        return caught.value.call_id

    assert (told(100), told(101)) == ("c1", "")


def test_the_fields_of_a_call_have_the_names_of_the_table() -> None:
    call = ToolCall(
        "c1", "echo", {}, "sg:reply:g", 5, "k", TraceFields(PARENT, "a=b", "c=d"), "t", "p", "a", "r", {"x": "y"}
    )
    sent = [part if isinstance(part, bytes) else part.encode() for part in CODEC.encode_call(call)]

    assert sent == fields(CALL, ANSWERED, MORE, TRACED, {"meta.x": "y"})


def test_the_usual_limits_are_those_of_the_protocol() -> None:
    assert Limits() == Limits(args_bytes=262_144, reply_bytes=262_144, nesting=64)
    assert (MAX_FIELDS, MAX_STACK_BYTES) == (3_500, 16_384)


def written(name: str, header: str) -> str | bytes | None:
    """Give a trace field as it would be sent."""
    sent = CODEC.encode_call(ToolCall("c1", "echo", {}, trace=TraceFields(**{name: header})))
    return dict(zip(sent[::2], sent[1::2], strict=True)).get(name)


@pytest.mark.parametrize("count", range(4, 10))
def test_an_ordinary_call_is_read_whole_wherever_it_ends(count: int) -> None:
    ordinary = dict(list((CALL | ANSWERED | TRACED).items())[:count])
    answer, deadline, *trace = [*(ANSWERED | TRACED).values()][: count - 4] + [None] * (9 - count)

    assert read(ordinary) == ToolCall(
        "c1", "echo", {}, answer, None if deadline is None else int(deadline), trace=TraceFields(*trace)
    )


@pytest.mark.parametrize("name", [*CALL, *ANSWERED, *MORE, "meta.x"])
def test_each_field_of_the_table_may_be_given_once(name: str) -> None:
    values = CALL | ANSWERED | MORE | {"meta.x": "y"}

    assert refused(values, {name: values[name]}) == f"field {name} is given twice"


@pytest.mark.parametrize("name", [*CALL, *ANSWERED, *MORE, "meta"])
def test_each_name_of_a_payload_may_be_given_once(name: str) -> None:
    body: dict[str, Any] = {"v": 1, "id": "c1", "tool": "echo", "args": {}, "deadline": 5, "meta": {}}
    body |= {"reply_to": "sg:reply:g"} | MORE
    twice = f"{json.dumps(body)[:-1]}, {json.dumps(name)}: {json.dumps(body[name])}}}"
    roomy = Codec(Keys(), Limits())

    assert isinstance(roomy.decode_call("1-1", [b"payload", json.dumps(body).encode()]), ToolCall)
    with pytest.raises(MalformedEntryError, match=f"^{name} is given twice"):
        roomy.decode_call("1-1", [b"payload", twice.encode()])


@pytest.mark.parametrize("name", [*CALL, *ANSWERED, *MORE])
def test_a_field_that_is_no_utf8_is_named(name: str) -> None:
    if name in {"v", "args", "deadline"}:
        return
    values = fields(CALL | ANSWERED | MORE)
    values[values.index(name.encode()) + 1] = b"\xff"
    with pytest.raises(MalformedEntryError, match=f"^{name} is not UTF-8"):
        CODEC.decode_call("1-1", values)


@pytest.mark.parametrize("order", [CALL, dict(reversed(CALL.items()))])
def test_every_limit_holds_at_its_last_value_and_not_beyond_in_any_order(order: dict[str, str]) -> None:
    args = '{"a":"%s"}'
    for name, most, more in (
        ("id", "é" * 256, "é" * 257),
        ("tool", "a" * 128, "a" * 129),
        ("args", args % ("x" * 92), args % ("x" * 93)),
        ("reply_to", "sg:reply:" + "é" * 1_015, "sg:reply:" + "é" * 1_016),
        ("deadline", "9" * 15, "9" * 16),
    ):
        assert read(order | {name: most})
        assert refused(order | {name: more}).startswith(name)
    for name in TRACED:
        assert read(order | {name: "x" * 8_192}).trace == TraceFields(**{name: "x" * 8_192})
        assert read(order | {name: "x" * 8_193}).trace == TraceFields()
        assert written(name, "x" * 8_192) == "x" * 8_192
        assert written(name, "x" * 8_193) is None


@pytest.mark.parametrize("version", ["2", "9", "10", "19", "9" * 15])
def test_every_number_from_two_on_is_a_newer_version(version: str) -> None:
    for entry in (CALL | {"v": version}, {"payload": f'{{"v": {version}}}'}):
        newer = CODEC.decode_call("1-1", fields(entry))
        assert isinstance(newer, NewerCall)
        assert newer.version == int(version)


def test_the_smallest_values_are_taken() -> None:
    assert read(CALL | {"id": "0", "tool": "0", "deadline": "0"}).deadline_ms == 0
    assert refused(CALL | {"id": ""}).startswith("id")
    assert refused(CALL | {"deadline": ""}).startswith("deadline")


def test_what_belongs_on_one_line_has_no_control_characters() -> None:
    for text in ("a", " ", "~", "\xa0", "é", "\u2028", "\U0001f600"):
        assert is_one_line(text)
    for code in (*range(0x20), *range(0x7F, 0xA0), 0xD800, 0xDFFF):
        assert not is_one_line(f"a{chr(code)}")
    assert not is_one_line("")


def test_the_id_of_a_call_is_found_without_a_look_at_the_rest() -> None:
    assert call_id_in("1-1", [b"x", b"y", b"id", b"c1"]) == "c1"
    assert call_id_in("1-1", [b"id", b"\xff"]) is None
    assert call_id_in("1-1", [b"id"]) is None
    assert call_id_in("1-1", []) is None
    assert call_id_in("1-1", [b"payload", b'{"id": "c1"}', b"x", b"y"]) == "c1"
    assert call_id_in("1-1", [b"payload", b"{}"]) == "1-1"
    for name in (b"v", b"tool", b"args"):
        assert call_id_in("1-1", [b"payload", b"{}", b"x", b"y", name, b"z"]) is None
    for body in (b"?", b"[]", b'{"id": 7}', b'{"a":' * 200 + b"{}" + b"}" * 200):
        assert call_id_in("1-1", [b"payload", body]) is None
    assert call_id_in("1-1", [b"payload", b'{"a":' * 199 + b"{}" + b"}" * 199]) == "1-1"


def test_the_trace_of_an_entry_is_read_whatever_else_it_is() -> None:
    values = fields({"x": "y"}, TRACED)

    assert trace_of(values) == trace_of([*values, b"odd"]) == TraceFields(PARENT, "a=b", "c=d")
    assert trace_of([]) == TraceFields()


@pytest.mark.parametrize("raw", ["?", "[]", "[" * 100])
def test_a_payload_that_cannot_be_read_is_named(raw: str) -> None:
    assert refused({"payload": raw}).startswith("payload ")


@pytest.mark.parametrize("name", ["args", "meta"])
def test_what_is_no_object_in_a_payload_is_named(name: str) -> None:
    body = {"tool": "echo", "args": {}, name: []}

    assert refused({"payload": json.dumps(body)}) == f"{name} is not a JSON object"


def test_a_program_may_be_given_an_entry_without_arguments() -> None:
    assert CODEC.decode_payload(fields({"x": "y"})) == {"x": "y"}
    assert CODEC.decode_payload([]) == {}
