"""call and tools: one call from the command line, and what can be called."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.cli.commands import ended
from tests.cli.letters import bury
from tests.support import toolbox
from tests.support.eventually import eventually
from toolspan.telemetry.one_shot import LOST
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.commands import Shell
    from tests.support.plane import Plane
    from tests.support.processes import Workers

ALL = Registry.load(["tests.support.toolbox"])


async def test_a_call_prints_its_result_and_says_how_long_it_took(plane: Plane, shell: Shell) -> None:
    async with running_worker(ALL, settings=plane.settings, name="here"):
        done = await shell.run("call", "echo", '{"text": "hello"}')

    timings, trace = done.err.splitlines()
    assert (done.code, done.out) == (0, '"hello"\n')
    assert timings.startswith("attempt 1 on here-")
    assert [part.split()[0] for part in timings.partition(": ")[2].split(", ")] == [
        "queue", "admission", "execute", "settle",
    ]  # fmt: skip
    assert re.fullmatch(r"trace [0-9a-f]{32}", trace)


async def test_a_call_without_a_trace_says_how_to_have_one(plane: Plane, shell: Shell, workers: Workers) -> None:
    await workers.start()
    said, told = (await shell.each("call echo", "call echo --json")).values()

    assert said.err.splitlines()[1:] == ["trace none: set OTEL_EXPORTER_OTLP_ENDPOINT to have one"]
    assert (told.code, told.json["trace_id"]) == (0, None)
    assert await plane.left() == 0


async def test_a_call_for_machines_is_one_line_of_json(plane: Plane, shell: Shell) -> None:
    async with running_worker(ALL, settings=plane.settings) as worker:
        done = await shell.run("call", "about", "{}", "--json")

    told = done.json
    assert (done.code, done.err) == (0, "")
    assert list(told) == ["status", "result", "id", "entry_id", "attempt", "consumer", "timings", "trace_id"]
    assert (told["status"], told["result"]["id"], told["attempt"]) == ("ok", told["id"], 1)
    assert told["consumer"] == worker.consumer
    assert list(told["timings"]) == ["queue", "admission", "execute", "settle"]


async def test_a_call_under_a_key_is_made_once(plane: Plane, shell: Shell, tmp_path: Path) -> None:
    arguments = json.dumps({"path": str(tmp_path / "runs")})
    async with running_worker(ALL, settings=plane.settings):
        told = [await shell.run("call", "marked", arguments, "--idempotency-key", "k", "--json") for _ in range(2)]
        other = await shell.run("call", "marked", "{}", "--idempotency-key", "k")

    assert told[0].json == told[1].json
    assert told[0].json["result"] == 1
    assert (other.code, "other arguments" in other.sentence) == (1, True)


async def test_a_full_backlog_is_said(shell: Shell, plane: Plane) -> None:
    await plane.append("echo")
    done = await shell.run("call", "echo", TOOLSPAN_BACKLOG_LIMIT="1")

    assert done.code == 1
    assert done.sentence.startswith("the backlog is full: 1 of 1 calls wait; try again in ")


async def test_arguments_that_cannot_be_sent_are_wrong_usage(lonely: Shell) -> None:
    not_json, half, no_object = (
        await lonely.each("call echo {", 'call echo \'{"half": "\udced"}\'', "call echo [1]")
    ).values()

    assert (not_json.code, half.code, no_object.code) == (2, 2, 2)
    assert not_json.sentence.startswith("ARGS is not JSON: ")
    assert half.sentence.startswith("ARGS is not JSON: ")
    assert no_object.sentence.startswith("ARGS is not a JSON object, such as ")


async def test_a_timeout_that_nobody_could_keep_is_wrong_usage(lonely: Shell) -> None:
    commands = [f"call echo --timeout {seconds}" for seconds in ("nan", "inf", "1e9")]
    for command, done in (await lonely.each(*commands)).items():
        assert (done.code, done.out) == (2, ""), command
        assert "Invalid value for '--timeout'" in done.err, command


async def test_a_call_that_fails_says_of_what_kind_it_is(plane: Plane, shell: Shell) -> None:
    kinds = {
        """call fails '{"message": "no such index"}'""": "tool_error: no such index",
        "call nobody.serves.it": "unknown_tool: ",
        "call hangs": "timeout: ",
        """call echo '{"text": 5}'""": "invalid_arguments: ",
    }
    async with running_worker(ALL, settings=plane.settings):
        ends = await shell.each(*kinds)

    for command, done in ends.items():
        assert (done.code, done.out) == (1, ""), command
        assert done.sentence.startswith(kinds[command]), command


async def test_a_failure_for_machines_says_all_that_was_answered(plane: Plane, shell: Shell) -> None:
    async with running_worker(ALL, settings=plane.settings):
        done = await shell.run("call", "fails", '{"message": "it broke"}', "--json")

    told = done.json
    assert (done.code, done.err) == (1, "")
    assert told["status"] == "error"
    assert told["error"] == {
        "type": "tool_error", "message": "it broke", "retryable": False, "detail": {"exception": "RuntimeError"},
    }  # fmt: skip
    assert {"id", "entry_id", "attempt", "consumer", "timings", "trace_id"} < set(told)


async def test_a_call_that_nobody_answers_ends_with_its_timeout(plane: Plane, shell: Shell) -> None:
    said, told = (await shell.each("call echo --timeout 0.2", "call echo --timeout 0.2 --json")).values()

    told_ = "deadline_exceeded: no reply from echo within 0.2 s: no live worker serves it, and the call may still run"
    assert said.told() == (1, told_)
    assert (told.code, told.json["error"]["type"]) == (1, "deadline_exceeded")
    assert told.json["error"]["detail"] == {"may_still_run": True, "live_workers": 0}
    assert await plane.left() == 2


async def test_a_collector_that_does_not_answer_keeps_nobody_who_has_his_answer(plane: Plane, shell: Shell) -> None:
    came = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        # Until the other end has gone.
        with suppress(OSError):
            while await reader.read(65_536):
                pass
        writer.close()

    collector = await asyncio.start_server(silent, "127.0.0.1", 0)
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.sockets[0].getsockname()[1]}"}
    nobody = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    letter_id = await bury(plane)
    async with running_worker(ALL, settings=plane.settings):
        async with shell.started("call", "echo", **variables) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            done = await ended(process)
        away = await shell.run("call", "echo", **nobody)
        shown = await shell.run("dlq", "show", letter_id, **nobody)
        replayed = await shell.run("dlq", "replay", letter_id, **nobody)
    collector.close()

    assert (done.code, came.is_set()) == (0, True)
    assert "within 0.7 s" in LOST
    for one in (done, away, replayed):
        assert one.code == 0
        assert [line for line in one.err.splitlines() if "export" in line] == [f"toolspan: {LOST}"]
    assert "library.warned" not in done.err + away.err + shown.err + replayed.err


async def test_a_key_of_somebody_else_is_no_lost_redis(plane: Plane, shell: Shell) -> None:
    for key in (plane.keys.calls, plane.keys.dead_letters, plane.keys.workers):
        await plane.redis.set(key, "not ours", ex=60)

    for command, done in (await shell.each("call echo", "dlq ls", "tools")).items():
        assert (done.code, done.out) == (1, ""), command
        assert done.sentence.startswith("Redis refused: WRONGTYPE"), command


async def test_a_call_that_is_waited_for_can_be_given_up(plane: Plane, shell: Shell) -> None:
    async with shell.started("call", "echo") as process:
        await eventually(plane.left, because="the call is sent")
        process.send_signal(signal.SIGTERM)
        done = await ended(process)

    assert (done.code, done.out, done.err) == (0, "", "")


async def test_tools_are_listed_with_their_arguments(plane: Plane, shell: Shell) -> None:
    async with running_worker(toolbox.echo, toolbox.once, settings=plane.settings):
        listed, told = (await shell.each("tools", "tools --json")).values()

    rows = [row.split(maxsplit=3) for row in listed.out.splitlines() if row.split()[:1] in (["echo"], ["once"])]
    assert (listed.code, listed.err, told.code, told.err) == (0, "", 0, "")
    assert [row[:2] for row in rows] == [["echo", "text"], ["once", "path,"]]
    assert "Give *text* back." in listed.out
    assert "at_most_once" in listed.out
    assert [(tool["name"], tool["delivery"]) for tool in told.json] == [
        ("echo", "at_least_once"), ("once", "at_most_once"),
    ]  # fmt: skip
    assert told.json[0]["schema"]["properties"]["text"]["type"] == "string"


async def test_no_worker_serves_no_tools(plane: Plane, shell: Shell) -> None:
    listed, told = (await shell.each("tools", "tools --json")).values()

    assert (listed.code, listed.out, listed.err) == (0, "No live worker serves any tool.\n", "")
    assert (told.code, told.json) == (0, [])
    assert await plane.left() == 0


async def test_settings_come_from_a_dotenv_too(plane: Plane, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOOLSPAN_STREAM=beside\n")
    done = await shell.run("call", "echo", "--timeout", "0.1")

    left: Any = await plane.redis.xlen(f"{plane.settings.prefix}:stream:beside")
    await plane.redis.delete(f"{plane.settings.prefix}:stream:beside")
    assert (done.code, left) == (1, 1), json.dumps(done.err)
