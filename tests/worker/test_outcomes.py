"""How calls end: each kind of tool, of entry, of answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan.store import StreamStore
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.store.steps import Burial, Buried
    from toolspan.testing import Recorder

ALL = Registry.load(["tests.support.toolbox"])


async def test_an_exception_is_an_error_reply_without_its_stack(plane: Plane, settings: Settings) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("fails", message="no such index")
        reply = await eventually(lambda: plane.reply("fails"), because="it is answered")

    assert reply.failure.type == "tool_error"
    assert reply.failure.message == "no such index"
    assert reply.failure.detail == {"exception": "RuntimeError"}


async def test_a_tool_that_hangs_is_ended_by_its_timeout(plane: Plane, settings: Settings) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("hangs")
        reply = await eventually(lambda: plane.reply("hangs"), because="it is answered")

    assert reply.failure.type == "timeout"


async def test_a_tool_that_leaves_the_process_is_answered_and_the_worker_stays(
    plane: Plane, settings: Settings
) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("leaves")
        reply = await eventually(lambda: plane.reply("leaves"), because="it is answered")
        await plane.append("echo")
        await eventually(lambda: plane.reply("echo"), because="the worker still works")

    assert reply.failure.detail == {"exception": "SystemExit"}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("nan", "tool_error"),
        ("object", "tool_error"),
        ("half", "tool_error"),
        ("digits", "tool_error"),
        ("large", "reply_too_large"),
        ("deep", "reply_too_large"),
    ],
)
async def test_a_result_that_cannot_travel_is_an_error_reply(
    plane: Plane, settings: Settings, kind: str, error: str
) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("strange", kind=kind)
        reply = await eventually(lambda: plane.reply("strange"), because="it is answered")

    assert reply.failure.type == error


async def test_retries_run_the_tool_again_until_it_succeeds(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("flaky", path=str(tmp_path / "runs"), good_from=3)
        reply = await eventually(lambda: plane.reply("flaky"), because="the third attempt succeeds")

    assert reply.result == 3
    assert reply.attempt == 3


async def test_the_last_retry_is_answered_with_its_own_error(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("flaky", path=str(tmp_path / "runs"), good_from=9)
        reply = await eventually(lambda: plane.reply("flaky"), because="retries are used up")

    assert reply.failure.message == "not yet"
    assert reply.attempt == 3
    assert await plane.dead_letters() == []


async def test_a_tool_may_ask_for_another_attempt(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("again", path=str(tmp_path / "runs"), good_from=4)
        reply = await eventually(lambda: plane.reply("again"), because="the fourth attempt succeeds")

    assert reply.attempt == 4


async def test_a_call_past_its_deadline_is_answered_without_being_run(
    plane: Plane, settings: Settings, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    fields = ["v", "1", "id", "late", "tool", "marked", "args", f'{{"path": "{runs}"}}']
    await plane.add(*fields, "reply_to", plane.reply_to, "deadline", "1")
    async with running_worker(ALL, settings=settings):
        reply = await eventually(lambda: plane.reply("late"), because="it is answered")

    assert reply.failure.type == "deadline_exceeded"
    assert not runs.exists()


async def test_fire_and_forget_leaves_a_dead_letter_only_if_it_fails(plane: Plane, settings: Settings) -> None:
    async with running_worker(ALL, settings=settings):
        await plane.append("echo", reply=False)
        failed = await plane.append("fails", reply=False)
        await eventually(plane.dead_letters, because="the failure is kept")
        await eventually(lambda: _empty(plane), because="both are settled")

    letter = (await plane.dead_letters())[0]
    assert letter.entry_id == failed
    assert letter.reason == "tool_failed"
    assert "RuntimeError: it broke" in (letter.stack or "")
    assert await plane.replies() == []


async def test_older_producers_send_one_payload(plane: Plane, settings: Settings) -> None:
    entry = await plane.add("payload", f'{{"tool": "echo", "args": {{"text": "old"}}, "reply_to": "{plane.reply_to}"}}')
    async with running_worker(ALL, settings=settings):
        reply = await eventually(lambda: plane.reply(entry), because="it is answered under its entry id")

    assert reply.result == "old"


async def test_a_call_of_a_higher_version_that_nobody_reads_is_answered(plane: Plane, settings: Settings) -> None:
    await plane.add("v", "2", "id", "new", "tool", "echo", "body", "?", "reply_to", plane.reply_to)
    async with running_worker(ALL, settings=settings):
        reply = await eventually(lambda: plane.reply("new"), because="it is answered")

    assert reply.failure.type == "unknown_tool"


async def test_a_tool_that_another_live_worker_serves_is_left_to_it(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    both = running_worker(toolbox.echo, settings=settings, name="other")
    async with both as other, running_worker(toolbox.about, settings=settings, probe=recorder.probe):
        for number in range(20):
            await plane.append("echo", f"c{number}")
        for number in range(20):
            reply = await eventually(
                lambda number=number: plane.reply(f"c{number}"),  # type: ignore[misc]
                because="the worker that serves the tool answers",
            )
            assert reply.consumer == other.consumer
            assert reply.attempt == 1


def _malformed(plane: Plane) -> dict[str, list[Any]]:
    good = ["id", "bad", "tool", "echo", "args", "{}"]
    reply = ["reply_to", plane.reply_to]
    limit = plane.settings.max_args_bytes
    return {
        "raw bytes": [b"\xff\xfe", b"\x00\xff"],
        "repeated field": ["v", "1", *good, "tool", "echo", *reply],
        "one byte over the limit": [
            "v",
            "1",
            "id",
            "bad",
            "tool",
            "echo",
            "args",
            f'{{"text":"{"x" * (limit - 10)}"}}',
            *reply,
        ],
        "nested 65 deep": ["v", "1", "id", "bad", "tool", "echo", "args", '{"a":' * 65 + "1" + "}" * 65, *reply],
        "reply_to outside the prefix": ["v", "1", *good, "reply_to", "somebody:else"],
        "no version": [*good, *reply],
        "payload that is no object": ["payload", "[1]"],
    }


@pytest.mark.parametrize(
    "kind",
    [
        "raw bytes",
        "repeated field",
        "one byte over the limit",
        "nested 65 deep",
        "reply_to outside the prefix",
        "no version",
        "payload that is no object",
    ],
)
async def test_a_malformed_entry_is_kept_byte_for_byte_and_answered_if_it_can_be(
    plane: Plane, settings: Settings, kind: str
) -> None:
    fields = _malformed(plane)[kind]
    entry = await plane.add(*fields)
    async with running_worker(ALL, settings=settings):
        letter = (await eventually(plane.dead_letters, because="it is dead-lettered"))[0]
        await plane.append("echo", "after")
        await eventually(lambda: plane.reply("after"), because="the worker goes on")

    assert letter.entry_id == entry
    assert letter.reason == "malformed"
    assert letter.fields == [part if isinstance(part, bytes) else part.encode() for part in fields]
    answered = await plane.reply("bad")
    assert (answered is not None) == (plane.reply_to in fields)
    assert answered is None or answered.failure.type == "malformed"  # type: ignore[union-attr]


async def test_a_call_with_five_thousand_fields_is_run(plane: Plane, settings: Settings) -> None:
    more = [part for number in range(4_996) for part in (f"x{number}", "1")]
    await plane.add("v", "1", "id", "wide", "tool", "echo", "args", "{}", "reply_to", plane.reply_to, *more)
    async with running_worker(ALL, settings=settings):
        reply = await eventually(lambda: plane.reply("wide"), because="unknown fields are ignored")

    assert reply.status == "ok"


async def test_a_malformed_entry_of_five_thousand_fields_is_kept_whole(plane: Plane, settings: Settings) -> None:
    fields = [part for number in range(5_000) for part in (f"x{number % 4_000}", b"\xff")]
    await plane.add(*fields)
    async with running_worker(ALL, settings=settings):
        letter = (await eventually(plane.dead_letters, because="it is dead-lettered"))[0]

    assert letter.fields == [part if isinstance(part, bytes) else part.encode() for part in fields]


async def test_a_reply_that_cannot_be_written_harms_no_neighbour(plane: Plane, settings: Settings) -> None:
    wrong = plane.keys.replies("on-purpose")
    await plane.redis.set(wrong, "not a stream")
    call = ["v", "1", "tool", "echo", "args", '{"text": "kept"}']
    for number in range(9):
        await plane.add(*call, "id", f"n{number}", "reply_to", plane.reply_to)
    bad = await plane.add(*call, "id", "bad", "reply_to", wrong)
    async with running_worker(ALL, settings=settings):
        for number in range(9):
            await eventually(lambda number=number: plane.reply(f"n{number}"), because="neighbours are answered")  # type: ignore[misc]
        letter = (await eventually(plane.dead_letters, because="the other is dead-lettered"))[0]
        await eventually(lambda: _empty(plane), because="all are settled")

    assert letter.entry_id == bad
    assert letter.reason == "reply_failed"
    assert letter.reply == '{"status":"ok","result":"kept"}'
    assert len(await plane.replies()) == 9


async def test_a_bug_of_ours_after_a_refused_reply_is_the_trouble_of_that_call_alone(
    plane: Plane, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine, bugs = StreamStore.quarantine, [RuntimeError("a bug")]

    async def first_fails(store: StreamStore, burial: Burial) -> Buried:
        if bugs:
            raise bugs.pop()
        return await quarantine(store, burial)

    monkeypatch.setattr(StreamStore, "quarantine", first_fails)
    wrong = plane.keys.replies("on-purpose")
    await plane.redis.set(wrong, "not a stream")
    bad = await plane.add("v", "1", "tool", "echo", "args", "{}", "id", "bad", "reply_to", wrong)
    async with running_worker(ALL, settings=settings):
        await eventually(lambda: not bugs, because="its reply was refused")
        await plane.append("echo")
        await eventually(lambda: plane.reply("echo"), because="the worker goes on")
        (letter,) = await eventually(plane.dead_letters, because="it is dead-lettered at its next attempt")

    assert (letter.entry_id, letter.reason) == (bad, "reply_failed")
    assert letter.attempts[0].error == "worker_error"


async def test_never_more_calls_are_held_than_allowed(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    release = tmp_path / "release"
    runs = tmp_path / "runs"
    few = settings.model_copy(update={"concurrency": 5})
    for number in range(50):
        await plane.append("until", f"c{number}", path=str(runs), release=str(release))
    async with running_worker(ALL, settings=few):
        await eventually(lambda: runs.exists() and len(runs.read_text().splitlines()) == 5, because="five run")
        held = len(await plane.pending())
        release.touch()
        await eventually(lambda: _empty(plane), because="all are settled")

    assert held == 5
    assert len(await plane.replies()) == 50


async def test_nothing_is_left_after_calls_of_all_kinds(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    async with running_worker(ALL, settings=settings):
        for number in range(200):
            await plane.append("echo", f"e{number}")
            await plane.append("fails", f"f{number}")
            await plane.append("once", f"o{number}", path=str(tmp_path / "once"))
            await plane.append("again", f"a{number}", path=str(tmp_path / f"a{number}"), good_from=2)
        await eventually(lambda: _empty(plane), because="all are settled", within=60)

        assert len({reply.call_id for reply in await plane.replies()}) == 800
        assert len(await plane.replies()) == 800
        assert await plane.redis.exists(plane.keys.attempts, plane.keys.parked) == 0


async def _empty(plane: Plane) -> bool:
    return await plane.left() == 0
