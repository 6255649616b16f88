"""A call and its reply, by PROTOCOL alone: what §2 allows to be sent, and what §3 says comes back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.protocol.outside import Outside

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER_TRACE = "00-11111111111111111111111111111111-b7ad6b7169203331-01"


def _call(outside: Outside, tool: str, *more: str, args: str = "{}") -> dict[str, str]:
    """Send a call in the form of fields, and wait for its reply."""
    reply_to = outside.reply_to()
    outside.append("v", "1", "id", "c1", "tool", tool, "args", args, "reply_to", reply_to, *more)
    return outside.answer(reply_to)


def _payload(outside: Outside, body: dict[str, Any], *beside: str) -> tuple[str, dict[str, str]]:
    """Send a call as older producers do, and wait for its reply."""
    reply_to = outside.reply_to()
    entry_id = outside.append("payload", json.dumps({**body, "reply_to": reply_to}), *beside)
    return entry_id, outside.answer(reply_to)


def test_a_reply_has_the_fields_of_the_protocol(outside: Outside) -> None:
    reply_to = outside.reply_to()
    fields = ["v", "1", "id", "c1", "tool", "echo", "args", '{"text":"hi"}', "reply_to", reply_to]
    entry_id = outside.append(*fields, "traceparent", TRACE)

    reply = outside.answer(reply_to)

    timings = json.loads(reply.pop("timings"))
    assert list(timings) == ["queue", "admission", "execute", "settle"]
    assert all(0 <= milliseconds < 60_000 for milliseconds in timings.values())
    assert re.fullmatch(r"outside-\d+-[0-9a-f]{4}", reply.pop("consumer"))
    # This worker exports no spans: what it was given is the nearest that anybody can look up.
    assert reply.pop("traceparent") == TRACE
    assert reply == {"v": "1", "id": "c1", "entry": entry_id, "status": "ok", "result": '"hi"', "attempt": "1"}


def test_a_call_that_was_answered_has_left_nothing(outside: Outside) -> None:
    reply_to = outside.reply_to()
    entry_id = outside.append("v", "1", "id", "c1", "tool", "echo", "args", "{}", "reply_to", reply_to)
    outside.answer(reply_to)

    assert outside.redis("XRANGE", outside.calls, entry_id, entry_id) == []
    assert outside.redis("XPENDING", outside.calls, outside.group, entry_id, entry_id, 1) == []
    assert outside.redis("HEXISTS", f"{outside.prefix}:attempts:tools", entry_id) == 0
    assert outside.events(entry_id) == []
    assert outside.redis("XLEN", reply_to) == 1


def test_a_reply_stream_that_nobody_trims_expires(outside: Outside) -> None:
    reply_to = outside.reply_to()
    outside.append("v", "1", "id", "c1", "tool", "echo", "args", "{}", "reply_to", reply_to)
    outside.answer(reply_to)

    assert 0 < outside.redis("TTL", reply_to) <= 3_600


def test_what_the_caller_says_of_a_call_reaches_its_tool(outside: Outside) -> None:
    deadline = str(outside.now_ms() + 60_000)
    more = [
        "principal",
        "ada",
        "idem",
        "k",
        "tool_call_id",
        "call_1",
        "attempt_of",
        "c0",
        "meta.team",
        "x",
        "unknown",
        "ignored",
    ]
    reply = _call(outside, "about", "deadline", deadline, *more)

    about = json.loads(reply["result"])
    assert 0 < about.pop("remaining") < 61
    assert about == {"id": "c1", "attempt": 1, "principal": "ada", "idempotency_key": "k"}


def test_a_call_without_a_trace_is_answered_without_one_where_no_span_is_exported(outside: Outside) -> None:
    assert "traceparent" not in _call(outside, "echo")


@pytest.mark.parametrize("trace", ["nonsense", "00-0-0-00", "ff" * 5_000])
def test_a_trace_that_cannot_be_read_is_ignored(outside: Outside, trace: str) -> None:
    assert _call(outside, "echo", "traceparent", trace, "tracestate", trace, "baggage", trace)["status"] == "ok"


def test_a_payload_without_an_id_is_answered_under_its_entry_id(outside: Outside) -> None:
    entry_id, reply = _payload(outside, {"tool": "echo", "args": {"text": "old"}})

    assert (reply["id"], reply["entry"], reply["status"], reply["result"]) == (entry_id, entry_id, "ok", '"old"')


def test_a_payload_may_say_all_that_fields_may(outside: Outside) -> None:
    body = {"v": 1, "id": "c1", "tool": "about", "args": {}, "principal": "ada", "idem": "k", "meta": {"team": "x"}}
    _, reply = _payload(outside, {**body, "deadline": outside.now_ms() + 60_000, "unknown": [1]})

    about = json.loads(reply["result"])
    assert 0 < about.pop("remaining") < 61
    assert about == {"id": "c1", "attempt": 1, "principal": "ada", "idempotency_key": "k"}


def test_the_trace_of_a_payload_may_stand_in_it(outside: Outside) -> None:
    _, reply = _payload(outside, {"tool": "echo", "args": {}, "traceparent": TRACE})

    assert reply["traceparent"][3:35] == TRACE[3:35]


def test_the_trace_beside_a_payload_wins(outside: Outside) -> None:
    _, reply = _payload(outside, {"tool": "echo", "args": {}, "traceparent": OTHER_TRACE}, "traceparent", TRACE)

    assert reply["traceparent"][3:35] == TRACE[3:35]


@pytest.mark.parametrize(
    ("tool", "args", "kind"),
    [
        ("fails", "{}", "tool_error"),
        ("echo", '{"text": 5}', "invalid_arguments"),
        ("echo", '{"more": 5}', "invalid_arguments"),
        ("nobody.serves.it", "{}", "unknown_tool"),
        ("hangs", "{}", "timeout"),
        ("strange", '{"kind": "large"}', "reply_too_large"),
        ("echo", "[]", "malformed"),
        ("-echo", "{}", "malformed"),
    ],
)
def test_an_error_reply_says_what_went_wrong(outside: Outside, tool: str, args: str, kind: str) -> None:
    reply = _call(outside, tool, args=args)

    error = json.loads(reply["error"])
    assert set(reply) - {"traceparent"} == {"v", "id", "entry", "status", "error", "attempt", "consumer", "timings"}
    assert (reply["v"], reply["id"], reply["status"]) == ("1", "c1", "error")
    assert list(error) == ["type", "message", "retryable", "detail"]
    assert error["type"] == kind
    assert error["message"]
    assert error["retryable"] is (kind == "timeout")


def test_an_error_of_the_tool_comes_without_its_stack(outside: Outside) -> None:
    reply = _call(outside, "fails", args='{"message": "no such index"}')

    assert json.loads(reply["error"]) == {
        "type": "tool_error",
        "message": "no such index",
        "retryable": False,
        "detail": {"exception": "RuntimeError"},
    }
    assert "Traceback" not in str(reply)


def test_phases_that_did_not_happen_have_no_time(outside: Outside) -> None:
    reply = _call(outside, "echo", "deadline", "1")

    assert json.loads(reply["error"])["type"] == "deadline_exceeded"
    assert {"admission", "execute"}.isdisjoint(json.loads(reply["timings"]))


def test_a_version_that_nobody_reads_is_answered(outside: Outside) -> None:
    reply_to = outside.reply_to()
    outside.append("v", "2", "id", "c1", "tool", "echo", "body", "?", "reply_to", reply_to)

    reply = outside.answer(reply_to)

    assert (reply["id"], json.loads(reply["error"])["type"]) == ("c1", "unknown_tool")


def test_a_malformed_call_without_an_id_is_answered_with_an_empty_one(outside: Outside) -> None:
    reply_to = outside.reply_to()
    outside.append("v", "1", "tool", "echo", "args", "{}", "reply_to", reply_to)

    reply = outside.answer(reply_to)

    assert (reply["id"], json.loads(reply["error"])["type"]) == ("", "malformed")


def test_a_reply_counts_the_attempts_that_were_made(outside: Outside, tmp_path: Path) -> None:
    reply = _call(outside, "flaky", args=json.dumps({"path": str(tmp_path / "runs"), "good_from": 3}))

    assert (reply["status"], reply["attempt"], reply["result"]) == ("ok", "3", "3")
