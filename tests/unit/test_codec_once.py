"""The record of an idempotency key: what it is found by, what it is compared with, and how it is read."""

from __future__ import annotations

import hashlib
import json

import pytest

from toolspan.codec import FORGOTTEN, decode_record, encode_remembered, once_digest, once_key
from toolspan.errors import MalformedEntryError
from toolspan.model import OnceKey, Remembered, Reply, Timings, ToolCall

REPLY = ["v", "1", "id", "c1", "entry", "1-1", "status", "ok", "result", "7"]
READ = Reply("c1", "1-1", "ok", 7, None, 0, "", Timings(), None)


def record(**changed: object) -> bytes:
    return json.dumps({"id": "c1", "entry": "1-1", "reply": REPLY, "args": "x", **changed}).encode()


def test_a_record_is_named_by_principal_tool_and_key() -> None:
    assert once_digest("ada", "echo", "k") == hashlib.sha256(b"ada\0echo\0k").hexdigest()
    assert once_digest(None, "echo", "k") == once_digest("", "echo", "k") == hashlib.sha256(b"\0echo\0k").hexdigest()
    assert once_digest(None, "echo", "\ud800") == hashlib.sha256(b"\0echo\0?").hexdigest()


def test_arguments_are_compared_whatever_their_order_and_spelling() -> None:
    key = once_key(ToolCall("c1", "echo", {"b": 1, "a": [1.0, "é"]}, idem="k", principal="ada"))
    canonical = hashlib.sha256(rb'{"a":[1.0,"\u00e9"],"b":1}').hexdigest()

    assert key == OnceKey(once_digest("ada", "echo", "k"), '"c1"', canonical)
    assert once_key(ToolCall("c1", "echo", {}, idem="")) == OnceKey(
        once_digest(None, "echo", ""), '"c1"', hashlib.sha256(b"{}").hexdigest()
    )
    assert once_key(ToolCall("c1", "echo", {})) is None


def test_ends_that_are_not_the_tools_own_are_forgotten() -> None:
    assert {"cancelled", "deadline_exceeded", "worker_error", "quarantined"} == FORGOTTEN


def test_a_reply_is_remembered_as_texts() -> None:
    assert encode_remembered(["v", "1", "result", "é".encode()]) == '["v","1","result","é"]'.encode()


def test_a_record_is_read() -> None:
    assert decode_record(record()) == Remembered("c1", "1-1", READ)
    for still_open in (record(reply=None), b'{"id": "c1", "entry": "1-1"}', record(reply=None, more={"a": {"b": {}}})):
        assert decode_record(still_open) == Remembered("c1", "1-1", None)


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"?", b"[]", b"\xff", b"[" * 100_000),
        *(record(id=None), record(id=1), record(entry=None), record(entry=1)),
        *(record(reply={}), record(reply="v"), record(reply=["v", 1]), record(reply=["v"]), record(reply=[])),
        record(reply=None, more={"a": {"b": {"c": {}}}}),
        record(reply=dict.fromkeys(REPLY)),
    ],
)
def test_what_is_no_record_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedEntryError):
        decode_record(raw)
