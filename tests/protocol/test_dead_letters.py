"""Dead letters, by PROTOCOL §4 alone: every reason that a worker can have, and every field."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.protocol.outside import Outside

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALL = ("v", "1", "id", "c1", "tool", "echo", "args", "{}", "meta.team", "x", "unknown", "kept")
EVERY = {
    "dlq.id",
    "dlq.reason",
    "dlq.error_type",
    "dlq.error_message",
    "dlq.attempts",
    "dlq.consumer",
    "dlq.first_delivered",
    "dlq.at",
    "dlq.fingerprint",
}


def _ended(attempt: int, error: str) -> dict[str, Any]:
    return {"consumer": "ghost", "attempt": attempt, "start": attempt * 10, "end": attempt * 10 + 5, "error": error}


def _about(letter: dict[str, str]) -> dict[str, str]:
    """What a dead letter says of itself."""
    return {name: value for name, value in letter.items() if name.startswith("dlq.")}


def _original(letter: dict[str, str]) -> tuple[str, ...]:
    return tuple(part for pair in letter.items() if not pair[0].startswith("dlq.") for part in pair)


def _error(reply: dict[str, str]) -> str:
    kind: str = json.loads(reply["error"])["type"]
    return kind


def test_a_malformed_entry_is_kept_with_all_that_is_known_of_it(outside: Outside) -> None:
    reply_to = outside.reply_to()
    fields = ("v", "1", "id", "c1", "tool", "echo", "args", "[1]", "reply_to", reply_to, "unknown", "kept")
    before = outside.now_ms()
    entry_id = outside.append(*fields)
    letter = outside.letter(entry_id)
    reply = outside.answer(reply_to)

    assert _original(letter) == fields
    assert set(_about(letter)) - {"dlq.traceparent"} == EVERY
    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("malformed", "malformed")
    assert letter["dlq.error_message"]
    assert letter["dlq.consumer"] == reply["consumer"]
    assert re.fullmatch(r"[0-9a-f]{16}", letter["dlq.fingerprint"])
    [attempt] = json.loads(letter["dlq.attempts"])
    assert before <= attempt["start"] <= attempt["end"] <= outside.now_ms()
    assert (attempt["consumer"], attempt["attempt"], attempt["error"]) == (reply["consumer"], 1, "malformed")
    assert letter["dlq.first_delivered"] == str(attempt["start"])
    assert attempt["end"] <= int(letter["dlq.at"]) <= outside.now_ms()
    assert (reply["id"], _error(reply)) == ("c1", "malformed")


def test_a_call_that_outlived_its_workers_is_a_dead_letter_and_an_error_reply(outside: Outside) -> None:
    reply_to = outside.reply_to()
    record = [_ended(number, "worker_lost") for number in (1, 2, 3)]
    entry_id = outside.orphan(*CALL, "reply_to", reply_to, "traceparent", TRACE, attempts=4, record=record)
    letter = outside.letter(entry_id)
    reply = outside.answer(reply_to)

    assert _original(letter) == (*CALL, "reply_to", reply_to, "traceparent", TRACE)
    assert set(_about(letter)) == EVERY | {"dlq.traceparent"}
    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("worker_lost", "quarantined")
    assert letter["dlq.first_delivered"] == "10"
    *past, last = json.loads(letter["dlq.attempts"])
    assert past == record
    assert (last["consumer"], last["attempt"], last["error"]) == ("ghost", 4, "worker_lost")
    assert letter["dlq.traceparent"][3:35] == TRACE[3:35]
    assert (_error(reply), reply["attempt"]) == ("quarantined", "4")
    assert [event["event"] for event in outside.events(entry_id)] == ["reclaimed", "quarantined"]


def test_a_call_that_used_up_its_attempts_by_errors_of_ours_is_one_too(outside: Outside) -> None:
    reply_to = outside.reply_to()
    record = [_ended(number, "worker_error") for number in (1, 2, 3, 4)]
    entry_id = outside.orphan(*CALL, "reply_to", reply_to, attempts=4, record=record)
    letter = outside.letter(entry_id)

    assert set(_about(letter)) - {"dlq.traceparent"} == EVERY
    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("max_attempts", "worker_error")
    assert json.loads(letter["dlq.attempts"]) == record
    assert _error(outside.answer(reply_to)) == "worker_error"


def test_a_call_that_was_begun_and_must_not_run_twice_is_one_too(outside: Outside) -> None:
    reply_to = outside.reply_to()
    entry_id = outside.orphan(*CALL, "reply_to", reply_to, attempts=1, record=[], mark="begun")
    letter = outside.letter(entry_id)

    assert set(_about(letter)) - {"dlq.traceparent"} == EVERY
    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("outcome_unknown", "outcome_unknown")
    assert _error(outside.answer(reply_to)) == "outcome_unknown"
    assert outside.redis("HEXISTS", f"{outside.prefix}:attempts:tools", f"{entry_id}:mark") == 0


def test_a_reply_that_cannot_be_written_is_kept_in_a_dead_letter(outside: Outside) -> None:
    reply_to = outside.reply_to()
    outside.redis("SET", reply_to, "not a stream", "EX", 60)
    entry_id = outside.append("v", "1", "id", "c1", "tool", "echo", "args", '{"text":"kept"}', "reply_to", reply_to)
    letter = outside.letter(entry_id)

    assert set(_about(letter)) - {"dlq.traceparent"} == EVERY | {"dlq.reply"}
    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("reply_failed", "worker_error")
    assert json.loads(letter["dlq.reply"]) == {"status": "ok", "result": "kept"}
    assert outside.redis("GET", reply_to) == "not a stream"


def test_a_failure_that_nobody_waits_for_is_a_dead_letter_with_its_stack(outside: Outside) -> None:
    fields = ("v", "1", "id", "c1", "tool", "fails", "args", '{"message":"no such index"}')
    letter = outside.letter(outside.append(*fields))

    assert _original(letter) == fields
    assert set(_about(letter)) - {"dlq.traceparent"} == EVERY | {"dlq.stack"}
    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("tool_failed", "tool_error")
    assert letter["dlq.error_message"] == "no such index"
    assert letter["dlq.stack"].startswith("Traceback")
    assert len(letter["dlq.stack"].encode()) <= 16_384


def test_a_call_that_nobody_waits_for_and_that_expired_is_a_dead_letter_too(outside: Outside) -> None:
    letter = outside.letter(outside.append(*CALL, "deadline", "1"))

    assert (letter["dlq.reason"], letter["dlq.error_type"]) == ("tool_failed", "deadline_exceeded")


def test_equal_causes_have_equal_fingerprints(outside: Outside) -> None:
    def fingerprint(message: str) -> str:
        args = json.dumps({"message": message})
        return outside.letter(outside.append("v", "1", "id", "c", "tool", "fails", "args", args))["dlq.fingerprint"]

    assert fingerprint("row 17 is missing") == fingerprint("row 4 is missing")
    assert fingerprint("row 17 is missing") != fingerprint("row 17 is locked")


def test_an_entry_with_such_names_of_its_own_is_kept_whole(outside: Outside) -> None:
    letter = outside.letter(outside.append("v", "1", "tool", "echo", "dlq.reason", "mine"))

    assert set(letter) - {"dlq.traceparent"} == EVERY | {"dlq.raw"}
    assert letter["dlq.reason"] == "malformed"


def test_a_dead_letter_is_the_end_of_its_entry(outside: Outside) -> None:
    entry_id = outside.append("v", "1", "tool", "echo")
    outside.letter(entry_id)

    assert outside.redis("XRANGE", outside.calls, entry_id, entry_id) == []
    assert outside.redis("XPENDING", outside.calls, outside.group, entry_id, entry_id, 1) == []
    assert outside.attempts(entry_id) == []
    assert [event["event"] for event in outside.events(entry_id)] == ["quarantined"]
