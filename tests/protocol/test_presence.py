"""What a worker shows of itself and of its calls, by PROTOCOL §1 alone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.protocol.outside import Outside


def _consumer(outside: Outside) -> str:
    [name] = outside.redis("ZRANGE", f"{outside.prefix}:workers:tools", 0, -1)
    return str(name)


async def test_a_worker_registers_what_the_fleet_has_to_know(outside: Outside) -> None:
    consumer = _consumer(outside)
    key = f"{outside.prefix}:worker:{consumer}"
    # Its load comes with the first heartbeat after it has registered.
    await eventually(lambda: "load" in outside.hash(key), because="it beats")
    registration = outside.hash(key)

    assert re.fullmatch(rf"outside-{outside.worker.pid}-[0-9a-f]{{4}}", consumer)
    assert set(registration) == {
        "host", "pid", "version", "protocol", "lease", "start", "concurrency", "tools", "running", "load", "batch",
    }  # fmt: skip
    assert registration["pid"] == str(outside.worker.pid)
    assert (registration["protocol"], registration["lease"], registration["concurrency"]) == ("1", "1000", "100")
    assert 0 < int(registration["start"]) <= outside.now_ms()
    assert re.fullmatch(r"\d+:1+", registration["batch"])


def test_its_registration_outlives_the_reap_threshold_and_no_more(outside: Outside) -> None:
    assert 58_000 < outside.redis("PTTL", f"{outside.prefix}:worker:{_consumer(outside)}") <= 61_000


def test_its_tools_are_described_under_their_hashes(outside: Outside) -> None:
    tools = json.loads(outside.hash(f"{outside.prefix}:worker:{_consumer(outside)}")["tools"])
    key = f"{outside.prefix}:schema:{tools['echo']}"
    description = json.loads(outside.redis("GET", key))

    assert description["name"] == "echo"
    assert description["description"] == "Give *text* back."
    assert description["schema"]["properties"]["text"]["type"] == "string"
    assert 0 < outside.redis("PTTL", key) <= 61_000


async def test_a_worker_beats_by_redis_clock(outside: Outside) -> None:
    key, consumer = f"{outside.prefix}:workers:tools", _consumer(outside)
    before = outside.now_ms()

    beat = await eventually(lambda: _later(outside, key, consumer, before), because="the next heartbeat is written")

    assert before < beat <= outside.now_ms()


def test_the_stream_and_its_group_are_listed(outside: Outside) -> None:
    [group] = outside.redis("XINFO", "GROUPS", outside.calls)

    assert group[1] == f"{outside.prefix}:tools"
    assert outside.redis("SMEMBERS", f"{outside.prefix}:streams") == ["tools"]
    assert _consumer(outside) in [info[1] for info in outside.redis("XINFO", "CONSUMERS", outside.calls, outside.group)]


async def test_a_call_that_outlives_a_heartbeat_is_on_record_while_it_runs(outside: Outside, tmp_path: Path) -> None:
    reply_to, release = outside.reply_to(), tmp_path / "release"
    args = json.dumps({"path": str(tmp_path / "runs"), "release": str(release)})
    before = outside.now_ms()
    entry_id = outside.append("v", "1", "id", "c1", "tool", "until", "args", args, "reply_to", reply_to)
    [attempt] = await eventually(lambda: outside.attempts(entry_id), because="a heartbeat writes it down")
    running = await eventually(lambda: _running(outside), because="a heartbeat says what runs")
    release.touch()
    outside.answer(reply_to)

    # Told by how long it was idle, in whole milliseconds.
    assert before - 1 <= attempt.pop("start") <= outside.now_ms()
    assert attempt == {"consumer": _consumer(outside), "attempt": 1}
    assert running == {entry_id: "until"}
    assert outside.attempts(entry_id) == []


async def test_a_retry_waits_among_the_parked_with_its_attempt_on_record(outside: Outside, tmp_path: Path) -> None:
    reply_to = outside.reply_to()
    args = json.dumps({"path": str(tmp_path / "runs"), "good_from": 2})
    entry_id = outside.append("v", "1", "id", "c1", "tool", "later", "args", args, "reply_to", reply_to)
    due_ms = await eventually(
        lambda: outside.redis("ZSCORE", f"{outside.prefix}:parked:tools", entry_id), because="it is parked"
    )
    [attempt] = outside.attempts(entry_id)
    [[_, owner, _, count]] = outside.redis("XPENDING", outside.calls, outside.group, entry_id, entry_id, 1)
    reply = outside.answer(reply_to)

    assert (owner, count) == ("~parked", 1)
    assert attempt["start"] <= attempt["end"] < int(due_ms)
    assert (attempt["consumer"], attempt["attempt"], attempt["error"]) == (_consumer(outside), 1, "tool_error")
    assert (reply["status"], reply["attempt"]) == ("ok", "2")
    assert outside.redis("EXISTS", f"{outside.prefix}:parked:tools", f"{outside.prefix}:attempts:tools") == 0


def test_exceptional_steps_are_written_down_with_who_when_and_why(outside: Outside, tmp_path: Path) -> None:
    reply_to = outside.reply_to()
    args = json.dumps({"path": str(tmp_path / "runs"), "good_from": 2})
    before = outside.now_ms()
    entry_id = outside.append("v", "1", "id", "c1", "tool", "flaky", "args", args, "reply_to", reply_to)
    outside.answer(reply_to)

    [event] = outside.events(entry_id)
    assert before <= int(event.pop("at")) <= outside.now_ms()
    assert event == {
        "event": "retried", "entry": entry_id, "consumer": _consumer(outside), "attempt": "1", "reason": "tool_error",
    }  # fmt: skip


def test_an_orphan_is_run_again_and_answered(outside: Outside) -> None:
    reply_to = outside.reply_to()
    fields = ("v", "1", "id", "c1", "tool", "echo", "args", '{"text":"again"}', "reply_to", reply_to)
    entry_id = outside.orphan(*fields, attempts=1, record=[])
    reply = outside.answer(reply_to)

    assert (reply["result"], reply["attempt"]) == ('"again"', "2")
    assert [(event["event"], event["consumer"]) for event in outside.events(entry_id)] == [("reclaimed", "ghost")]


def test_an_orphan_without_a_body_is_told_as_lost(outside: Outside) -> None:
    reply_to = outside.reply_to()
    lost = outside.orphan("v", "1", "id", "c1", "tool", "echo", "args", "{}", attempts=1, record=[])
    outside.redis("XDEL", outside.calls, lost)
    outside.orphan("v", "1", "id", "c2", "tool", "echo", "args", "{}", "reply_to", reply_to, attempts=1, record=[])
    outside.answer(reply_to)

    assert [(event["event"], event["reason"]) for event in outside.events(lost)] == [("lost", "deleted")]
    assert outside.redis("XPENDING", outside.calls, outside.group, lost, lost, 1) == []


def _later(outside: Outside, key: str, consumer: str, before: int) -> int:
    beat = int(outside.redis("ZSCORE", key, consumer))
    return beat if beat > before else 0


def _running(outside: Outside) -> dict[str, str]:
    raw = outside.hash(f"{outside.prefix}:worker:{_consumer(outside)}").get("running", "{}")
    return dict(json.loads(raw))
