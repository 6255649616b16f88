"""A tool call on the wire, by the letter of PROTOCOL: what is read, what is refused, where each limit lies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from toolspan.codec import MAX_FIELDS, Codec, Limits
from toolspan.errors import MalformedEntryError, TooLarge
from toolspan.keys import Keys
from toolspan.model import NewerCall, ToolCall, TraceFields

CODEC = Codec(Keys(), Limits(args_bytes=2_000))
ENTRY = "1795000000000-0"
PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
OTHER_PARENT = f"00-{'c' * 32}-{'d' * 16}-00"


def entry(*more: str | bytes, **changed: str | bytes | None) -> list[bytes]:
    """Give a good entry with some fields *changed*, or left out if None, and *more* at its end."""
    values: dict[str, str | bytes | None] = {"v": "1", "id": "c1", "tool": "echo", "args": "{}", **changed}
    fields = [part for name, value in values.items() if value is not None for part in (name, value)]
    return [part if isinstance(part, bytes) else part.encode() for part in (*fields, *more)]


def payload(body: Any = None, **changed: Any) -> list[bytes]:
    """Give a good entry of the older form with some names *changed*, or exactly *body*."""
    whole = {"tool": "echo", "args": {}, **changed} if body is None else body
    return [b"payload", whole if isinstance(whole, bytes) else json.dumps(whole).encode()]


def decoded(fields: list[bytes]) -> ToolCall:
    call = CODEC.decode_call(ENTRY, fields)
    assert isinstance(call, ToolCall)
    return call


def refused(fields: list[bytes]) -> MalformedEntryError:
    with pytest.raises(MalformedEntryError) as caught:
        CODEC.decode_call(ENTRY, fields)
    return caught.value


def test_every_field_of_the_table_is_read() -> None:
    call = decoded(
        entry(
            reply_to="sg:reply:g1",
            deadline="1795000000000",
            idem="key",
            traceparent=PARENT,
            tracestate="a=b",
            baggage="c=d",
            tool_call_id="call_1",
            principal="alice",
            attempt_of="c0",
            replay_of="1-0",
            args='{"n": 1}',
            **{"meta.team": "search"},
        )
    )

    assert call == ToolCall(
        id="c1",
        tool="echo",
        args={"n": 1},
        reply_to="sg:reply:g1",
        deadline_ms=1_795_000_000_000,
        idem="key",
        trace=TraceFields(PARENT, "a=b", "c=d"),
        tool_call_id="call_1",
        principal="alice",
        attempt_of="c0",
        replay_of="1-0",
        meta={"team": "search"},
    )


def test_a_call_is_written_under_the_names_of_the_table() -> None:
    call = ToolCall("c1", "echo", {"n": 1}, "sg:reply:g1", 5, "key", TraceFields(PARENT, "a=b", "c=d"), "t", "p", "x")
    fields = [part if isinstance(part, bytes) else part.encode() for part in CODEC.encode_call(call)]

    assert fields == [
        *(b"v", b"1", b"id", b"c1", b"tool", b"echo", b"args", b'{"n":1}', b"reply_to", b"sg:reply:g1"),
        *(b"deadline", b"5", b"idem", b"key", b"tool_call_id", b"t", b"principal", b"p", b"attempt_of", b"x"),
        *(b"traceparent", PARENT.encode(), b"tracestate", b"a=b", b"baggage", b"c=d"),
    ]


@pytest.mark.parametrize("field", ["v", "id", "tool", "args"])
def test_a_call_without_a_required_field_is_malformed(field: str) -> None:
    assert refused(entry(**{field: None}))


@pytest.mark.parametrize("field", ["v", "id", "tool", "args", "reply_to", "idem", "meta.a"])
def test_a_field_of_the_table_given_twice_is_malformed(field: str) -> None:
    values = {"v": "1", "id": "c1", "tool": "echo", "args": "{}", "reply_to": "sg:reply:g", "idem": "k", "meta.a": "m"}

    assert "given twice" in str(refused(entry(field, values[field], **values)))


def test_unknown_fields_are_ignored_even_when_repeated() -> None:
    more = [part for number in range(5_000) for part in (f"x{number % 2_500}", b"\xff")]

    assert decoded(entry(*more)) == decoded(entry())


@pytest.mark.parametrize("v", ["", "0", "01", "-1", "+1", "1.0", " 1", "1\n", "one", "١", b"\xff", "9" * 16])  # noqa: RUF001
def test_a_strange_version_is_malformed(v: str | bytes) -> None:
    assert "v is" in str(refused(entry(v=v)))


@pytest.mark.parametrize("fields", [entry(v="2", args=None, body="?"), payload({"v": 2, "id": "c1", "tool": "echo"})])
def test_a_higher_version_is_told_apart_whatever_else_the_entry_holds(fields: list[bytes]) -> None:
    assert CODEC.decode_call(ENTRY, fields) == NewerCall(2, "c1", "echo", None, TraceFields())


@pytest.mark.parametrize(
    ("fields", "newer"),
    [
        (entry(v="2", id=None), NewerCall(2, "", "echo", None, TraceFields())),
        (entry(v="2", id=b"\xff"), NewerCall(2, "", "echo", None, TraceFields())),
        (entry(v="2", reply_to="elsewhere"), NewerCall(2, "c1", "echo", None, TraceFields())),
        (entry(v="2", tool="?"), NewerCall(2, "c1", None, None, TraceFields())),
        (entry("tool", "add", v="2"), NewerCall(2, "c1", "add", None, TraceFields())),
        (entry("args", "{}", v="2", traceparent=PARENT), NewerCall(2, "c1", "echo", None, TraceFields(PARENT))),
        (payload({"v": 2, "tool": "echo"}), NewerCall(2, ENTRY, "echo", None, TraceFields())),
        (payload({"v": 2, "id": 7, "reply_to": "elsewhere"}), NewerCall(2, "", None, None, TraceFields())),
        (payload(b'{"v": 2, "id": "c1", "args": 1, "args": 2}'), NewerCall(2, "c1", None, None, TraceFields())),
    ],
)
def test_the_rules_of_a_higher_version_are_not_ours_to_check(fields: list[bytes], newer: NewerCall) -> None:
    assert CODEC.decode_call(ENTRY, fields) == newer


@pytest.mark.parametrize("fields", [entry("v", "2", v="2"), entry("v", "1", v="2"), payload(b'{"v": 2, "v": 2}')])
def test_a_version_given_twice_is_malformed(fields: list[bytes]) -> None:
    assert "v is given twice" in str(refused(fields))


@pytest.mark.parametrize("tool", ["a", "9", "A.b-c_d", "x" * 128])
def test_a_good_name_of_a_tool_is_taken(tool: str) -> None:
    assert decoded(entry(tool=tool)).tool == tool
    assert decoded(payload(tool=tool)).tool == tool


@pytest.mark.parametrize("tool", ["", "x" * 129, ".a", "-a", "_a", "a b", "a\n", "ä", "a/b"])
def test_a_bad_name_of_a_tool_is_malformed(tool: str) -> None:
    assert "tool is" in str(refused(entry(tool=tool)))
    assert "tool is" in str(refused(payload(tool=tool)))
    with pytest.raises(MalformedEntryError):
        CODEC.encode_call(ToolCall("c1", tool, {}))


@pytest.mark.parametrize("call_id", ["", "x" * 257, b"\xff"])
def test_a_bad_call_id_is_malformed(call_id: str | bytes) -> None:
    assert refused(entry(id=call_id)).call_id == ""


@pytest.mark.parametrize(
    "reply_to", ["sg:reply", "sg:repl", "", "other:reply:x", "Sg:reply:x", " sg:reply:x", "sg:reply:" + "x" * 1_016]
)
def test_a_reply_stream_outside_the_prefix_or_too_long_is_malformed(reply_to: str) -> None:
    assert refused(entry(reply_to=reply_to)).reply_to is None
    assert refused(payload(reply_to=reply_to)).reply_to is None
    with pytest.raises(MalformedEntryError):
        CODEC.encode_call(ToolCall("c1", "echo", {}, reply_to))


def test_a_reply_stream_may_be_as_long_as_a_key() -> None:
    longest = "sg:reply:" + "x" * 1_015

    assert decoded(entry(reply_to=longest)).reply_to == longest


@pytest.mark.parametrize("deadline", ["", "-1", "1.5", "1e3", "soon", " 1", "1" * 16, b"\xff", "NaN"])
def test_a_deadline_that_is_no_number_of_milliseconds_is_malformed(deadline: str | bytes) -> None:
    assert "deadline is not" in str(refused(entry(deadline=deadline)))


@pytest.mark.parametrize("deadline", [-1, 1.5, True, "1", [], 10**15])
def test_a_payload_with_such_a_deadline_is_malformed(deadline: Any) -> None:
    assert "deadline is not" in str(refused(payload(deadline=deadline)))


@pytest.mark.parametrize("deadline", [-1, 10**15])
def test_a_call_with_a_deadline_that_no_worker_reads_is_not_sent(deadline: int) -> None:
    with pytest.raises(MalformedEntryError):
        CODEC.encode_call(ToolCall("c1", "echo", {}, deadline_ms=deadline))


def test_arguments_may_have_exactly_the_bytes_of_the_limit() -> None:
    largest = {"t": "x" * (2_000 - len('{"t":""}'))}

    assert decoded(entry(args=json.dumps(largest, separators=(",", ":")))).args == largest
    assert CODEC.encode_call(ToolCall("c1", "echo", largest))


def test_one_byte_more_is_too_large() -> None:
    larger = {"t": "x" * (2_001 - len('{"t":""}'))}

    assert "2001 bytes" in str(refused(entry(args=json.dumps(larger, separators=(",", ":")))))
    with pytest.raises(TooLarge):
        CODEC.encode_call(ToolCall("c1", "echo", larger))


def test_a_payload_may_measure_no_more_than_arguments() -> None:
    filler = "x" * (2_000 - len(payload(args={"t": ""})[1]))

    assert decoded(payload(args={"t": filler}))
    assert "2001 bytes" in str(refused(payload(args={"t": filler + "x"})))


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_arguments_may_be_nested_as_deep_as_the_limit() -> None:
    deep = _deep(64)

    assert decoded(entry(args=json.dumps(deep))).args == deep
    assert decoded(payload(args=deep)).args == deep
    assert CODEC.encode_call(ToolCall("c1", "echo", deep))


def test_one_level_more_is_too_deep() -> None:
    deep = _deep(65)

    assert "64 levels" in str(refused(entry(args=json.dumps(deep))))
    assert refused(payload(args=deep))
    with pytest.raises(TooLarge):
        CODEC.encode_call(ToolCall("c1", "echo", deep))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'["\\"",'])
def test_a_hundred_thousand_brackets_are_refused_before_anything_recurses(opening: bytes) -> None:
    codec = Codec(Keys(), Limits(args_bytes=10_000_000))
    raw = opening * 100_000

    with pytest.raises(MalformedEntryError, match="nested deeper"):
        codec.decode_call(ENTRY, entry(args=raw))
    with pytest.raises(MalformedEntryError, match="nested deeper"):
        codec.decode_call(ENTRY, [b"payload", raw])
    with pytest.raises(MalformedEntryError, match="nested deeper"):
        codec.decode_payload([b"payload", raw])


def test_brackets_inside_strings_are_no_levels() -> None:
    text = '[{"\\' * 100

    assert decoded(entry(args=json.dumps({"text": text}))).args == {"text": text}


@pytest.mark.parametrize(
    "args",
    [
        "",
        "null",
        "[]",
        "1",
        '"text"',
        "{",
        "{'a': 1}",
        '{"a": 1,}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": -1e400}',
        '{"a": 1e0000400}',
        '{"a": 1%s.0}' % ("0" * 400),
        '{"a": 1%se99}' % ("0" * 250),
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": 1} {}',
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        "{}".encode("utf-16"),
    ],
)
def test_arguments_that_are_no_json_object_are_malformed(args: str | bytes) -> None:
    raw = args if isinstance(args, bytes) else args.encode()

    assert refused(entry(args=raw))
    assert refused([b"payload", b'{"tool": "echo", "args": %s}' % raw])


def test_numbers_keep_their_value() -> None:
    args = {"big": 10**400, "negative": -(2**63) - 1, "small": 5e-324, "large": 1.7e308, "zero": 1e-400}

    assert decoded(entry(args=json.dumps(args))).args == args


def test_words_that_look_like_infinities_are_only_words() -> None:
    args = {"NaN": "Infinity", "n": "1e999 and " + "9" * 300}

    assert decoded(entry(args=json.dumps(args))).args == args
    assert CODEC.encode_call(ToolCall("c1", "echo", args))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object(), {"a": {1, object()}}, b"\xff"])
def test_arguments_that_are_not_json_are_not_sent(value: Any) -> None:
    with pytest.raises(MalformedEntryError):
        CODEC.encode_call(ToolCall("c1", "echo", {"a": value}))


@pytest.mark.parametrize("field", ["id", "idem", "principal", "tool_call_id", "attempt_of", "replay_of", "reply_to"])
def test_a_text_that_is_no_utf8_is_malformed_and_not_sent(field: str) -> None:
    assert refused(entry(**{field: b"sg:reply:\xff"}))
    call: dict[str, Any] = {"id": "c1", "tool": "echo", "args": {}, field: "sg:reply:\ud800"}
    with pytest.raises(MalformedEntryError):
        CODEC.encode_call(ToolCall(**call))


@pytest.mark.parametrize("header", [b"\xff", b"", "ü".encode(), b"x" * 8_193])
@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
def test_a_trace_field_that_cannot_be_read_is_ignored(name: str, header: bytes) -> None:
    assert decoded(entry(**{name: header})).trace == TraceFields()
    assert decoded([*payload(), name.encode(), header]).trace == TraceFields()


def test_a_repeated_trace_field_makes_no_entry_malformed() -> None:
    assert decoded(entry("traceparent", PARENT, traceparent="00-x")).trace == TraceFields(PARENT)


@pytest.mark.parametrize("header", [5, None, [], {}, "ü"])
def test_a_trace_field_of_a_payload_that_is_no_text_is_ignored(header: Any) -> None:
    assert decoded(payload(traceparent=header)).trace == TraceFields()


def test_trace_fields_are_told_of_a_malformed_entry_too() -> None:
    assert refused(entry(args="?", traceparent=PARENT)).trace == TraceFields(PARENT)


def test_a_trace_field_that_nobody_could_read_is_not_sent() -> None:
    call = ToolCall("c1", "echo", {}, trace=TraceFields(PARENT, "ü", "\ud800"))
    fields = CODEC.encode_call(call)

    assert fields[-2:] == ["traceparent", PARENT]


def test_the_trace_of_the_append_wins_over_that_of_the_call() -> None:
    fields = CODEC.encode_call(ToolCall("c1", "echo", {}, trace=TraceFields(PARENT)), trace=TraceFields(OTHER_PARENT))

    assert fields[-2:] == ["traceparent", OTHER_PARENT]


def test_a_payload_needs_neither_version_nor_id() -> None:
    assert decoded(payload(args={"n": 1})) == ToolCall(ENTRY, "echo", {"n": 1})


def test_a_payload_holds_the_same_names_as_fields_do() -> None:
    fields = payload(
        v=1,
        id="c1",
        reply_to="sg:reply:g1",
        deadline=5,
        idem="key",
        tool_call_id="t",
        principal="p",
        attempt_of="x",
        replay_of="y",
        traceparent=PARENT,
        meta={"team": "search", "n": 1, "o": {"a": None}},
    )

    assert decoded(fields) == ToolCall(
        *("c1", "echo", {}, "sg:reply:g1", 5, "key", TraceFields(PARENT), "t", "p", "x", "y"),
        {"team": "search", "n": "1", "o": '{"a":null}'},
    )


def test_trace_fields_beside_the_payload_win() -> None:
    fields = [*payload(traceparent=PARENT, tracestate="a=b"), b"traceparent", OTHER_PARENT.encode()]

    assert decoded(fields).trace == TraceFields(OTHER_PARENT, "a=b")


def test_a_name_without_a_value_is_as_good_as_none() -> None:
    nothing = dict.fromkeys(("v", "id", "reply_to", "deadline", "idem", "principal", "meta"))

    assert decoded(payload(**nothing)) == decoded(payload())


@pytest.mark.parametrize(
    "changed",
    [
        {"v": 0},
        {"v": -1},
        {"v": "1"},
        {"v": 1.0},
        {"v": True},
        {"id": 7},
        {"id": ""},
        {"tool": 7},
        {"tool": None},
        {"args": []},
        {"args": None},
        {"args": "{}"},
        {"reply_to": 7},
        {"idem": 7},
        {"principal": ["a"]},
        {"meta": []},
    ],
)
def test_a_payload_with_a_value_of_another_type_is_malformed(changed: dict[str, Any]) -> None:
    assert refused(payload(**changed))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"1", b'"{}"', b"\xff", b"{", b"NaN"])
def test_a_payload_that_is_no_json_object_is_malformed(body: bytes) -> None:
    assert refused(payload(body))


@pytest.mark.parametrize(
    "body",
    [
        b'{"tool": "a", "args": {}, "tool": "b"}',
        b'{"tool": "a", "args": {}, "\\u0074ool": "b"}',
        b'{"tool": "a", "args": {}, "t\\u006f\\u006Fl": "b"}',
        b'{"tool": "a", "args": {}, "args"\n: {}}',
        b'{"tool": "a", "args": {}, "reply_to": null, "reply_\\u0074o": "sg:reply:x"}',
        b'{"tool": "a", "args": {}, "meta": {}, "meta": {}}',
    ],
)
def test_a_payload_with_a_name_of_the_table_twice_is_malformed(body: bytes) -> None:
    assert "given twice" in str(refused(payload(body)))


@pytest.mark.parametrize(
    "body",
    [
        b'{"tool": "a", "args": {"tool": 1, "args": {"id": 2}}, "id": "c"}',
        b'{"tool": "a", "args": {"a": 1, "a": 2}}',
        b'{"tool": "a", "args": {}, "x": 1, "x": 2}',
        b'{"\\u0074ool": "a", "args": {"\\u0061": 1}}',
        b'{"tool": "a", "args": {"\\u0061": %d}}' % 10**800,
        b'{"tool": "a", "args": {"text": "\\"tool\\": \\"tool\\":"}}',
    ],
)
def test_names_further_down_and_unknown_names_may_come_twice(body: bytes) -> None:
    assert decoded(payload(body)).tool == "a"


def test_two_payloads_are_malformed() -> None:
    assert "given twice" in str(refused([*payload(), *payload()]))


@pytest.mark.parametrize("field", ["v", "id", "tool", "args"])
def test_a_payload_beside_a_field_of_the_other_form_is_an_unknown_field(field: str) -> None:
    assert refused([*payload(), field.encode(), b"1"])
    assert decoded([*payload(), *entry()]).id == "c1"


def test_an_odd_number_of_parts_is_malformed() -> None:
    assert refused([*entry(), b"more"])
    with pytest.raises(MalformedEntryError):
        CODEC.decode_payload([b"payload"])


@pytest.mark.parametrize(
    "fields", [entry(args="?", reply_to="sg:reply:g"), payload(id="c1", v=0, reply_to="sg:reply:g")]
)
def test_a_malformed_entry_says_whom_to_answer(fields: list[bytes]) -> None:
    found = refused(fields)

    assert (found.call_id, found.reply_to, found.tool) == ("c1", "sg:reply:g", "echo")


def test_of_a_malformed_entry_only_what_is_valid_is_told() -> None:
    found = refused(entry(id="", tool="a b", reply_to="sg:reply:g", args="?"))

    assert (found.call_id, found.reply_to, found.tool) == ("", "sg:reply:g", None)


def test_meta_is_carried_byte_for_byte() -> None:
    fields = entry(b"meta.\xff", b"\x00\xfe")
    call = decoded(fields)

    assert CODEC.encode_call(call)[-2:] == [b"meta.\xff", b"\x00\xfe"]


def test_a_program_is_given_the_object_of_its_payload_as_it_is() -> None:
    body = {"anything": [1, None], "tool": 7, "args": "x", "v": "?"}

    assert CODEC.decode_payload(payload(body)) == body


def test_a_program_is_given_fields_with_their_arguments_decoded() -> None:
    assert CODEC.decode_payload([b"a", b"1", b"args", b'{"n": 1}']) == {"a": "1", "args": {"n": 1}}


def test_a_program_is_given_arguments_that_are_not_json_as_they_are() -> None:
    assert CODEC.decode_payload([b"args", b"?"]) == {"args": "?"}


@pytest.mark.parametrize("fields", [[b"payload", b"[]"], [b"payload", b"?"], [b"a", b"\xff"], [b"args", b"[" * 65]])
def test_a_program_is_not_given_what_cannot_be_read(fields: list[bytes]) -> None:
    with pytest.raises(MalformedEntryError):
        CODEC.decode_payload(fields)


def test_a_call_of_more_fields_than_a_script_can_write_is_not_sent() -> None:
    meta = {f"k{number}": "v" for number in range(MAX_FIELDS - 4)}
    assert len(CODEC.encode_call(ToolCall("c1", "echo", {}, meta=meta))) == 2 * MAX_FIELDS

    with pytest.raises(TooLarge, match=f"{MAX_FIELDS + 1} fields; {MAX_FIELDS} are allowed"):
        CODEC.encode_call(ToolCall("c1", "echo", {}, meta={**meta, "more": "v"}))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ([b"v", b"1", b"id", b"c", b"tool", b"t", b"args", b"{oops"], "args cannot be read: "),
        ([b"v", b"1", b"id", b"c", b"tool", b"t", b"args", b"[]"], "args is not a JSON object"),
        ([b"v", b"1", b"id", b"\xff", b"tool", b"t", b"args", b"{}"], "id is not UTF-8: invalid start byte at byte 0"),
        ([b"v", b"1", b"id", b"c", b"tool", b"t", b"args", b"{}", b"idem", b"a\xff"], "idem is not UTF-8: "),
        ([b"payload", b"{oops"], "payload cannot be read: "),
    ],
)
def test_what_is_malformed_is_named(fields: list[bytes], named: str) -> None:
    with pytest.raises(MalformedEntryError) as told:
        CODEC.decode_call("1-1", fields)

    assert str(told.value).startswith(named)
