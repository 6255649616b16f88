"""What callers get from ToolClient, whatever the worker is."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from toolspan import (
    CallError,
    InvalidArguments,
    TooLarge,
    ToolCancelled,
    ToolClient,
    ToolError,
    ToolTimeout,
    UnknownTool,
    tool,
)
from toolspan.testing import running_worker

if TYPE_CHECKING:
    import redis.asyncio

    from tests.gateway.answerer import Answerer
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


async def test_a_call_is_answered_by_a_worker_that_knows_the_protocol_alone(
    client: ToolClient, worker: Answerer
) -> None:
    reply = await client.call("echo", {"query": "redis", "limit": 3})

    assert reply.result == {"query": "redis", "limit": 3}
    assert (reply.call_id, reply.entry_id) == (worker.seen[0]["id"], worker.ids[0])
    assert (reply.attempt, reply.consumer) == (1, "by-hand")
    assert (reply.timings.queue, reply.timings.execute, reply.timings.settle) == (1.5, 2.25, None)


async def test_an_entry_holds_what_the_protocol_asks_for(
    client: ToolClient, worker: Answerer, settings: Settings
) -> None:
    await client.call("echo", {"a": 1}, tool_call_id="call_7", principal="ada", meta={"team": "blue"})

    fields = worker.seen[0]
    assert fields["v"] == "1"
    assert uuid.UUID(fields["id"]).version == 7
    assert json.loads(fields["args"]) == {"a": 1}
    assert fields["reply_to"].startswith(f"{settings.prefix}:reply:")
    assert (fields["tool_call_id"], fields["principal"], fields["meta.team"]) == ("call_7", "ada", "blue")
    assert fields["traceparent"].startswith("00-")


async def test_the_timeout_becomes_a_deadline_by_the_clock_of_redis(client: ToolClient, worker: Answerer) -> None:
    await client.call("echo", timeout=25)

    appended_ms = int(worker.ids[0].partition("-")[0])
    assert abs(int(worker.seen[0]["deadline"]) - appended_ms - 25_000) <= 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("tool_error", ToolError),
        ("timeout", ToolError),
        ("reply_too_large", ToolError),
        ("worker_error", ToolError),
        ("quarantined", ToolError),
        ("outcome_unknown", ToolError),
        ("cancelled", ToolCancelled),
        ("invalid_arguments", InvalidArguments),
        ("malformed", InvalidArguments),
        ("unknown_tool", UnknownTool),
        ("deadline_exceeded", ToolTimeout),
    ],
)
async def test_every_failure_is_raised_as_what_it_is(
    client: ToolClient, worker: Answerer, kind: str, error: type[CallError]
) -> None:
    with pytest.raises(CallError, match=f"so {kind}") as raised:
        await client.call(f"error.{kind}")

    assert type(raised.value) is error
    assert raised.value.type == kind
    assert raised.value.reply is not None
    assert raised.value.reply.call_id == worker.seen[0]["id"]


@pytest.mark.usefixtures("worker")
async def test_a_call_whose_time_ran_out_at_the_worker_is_over(client: ToolClient) -> None:
    with pytest.raises(ToolTimeout) as raised:
        await client.call("error.deadline_exceeded")

    assert raised.value.detail == {"may_still_run": False}


@pytest.mark.usefixtures("worker")
async def test_no_reply_in_time_says_that_the_call_may_still_run(client: ToolClient) -> None:
    with pytest.raises(ToolTimeout, match=r"no reply from mute within 0\.05 s") as raised:
        await client.call("mute", timeout=0.05)

    assert str(raised.value).endswith(": no live worker serves it, and the call may still run")
    assert raised.value.detail == {"may_still_run": True, "live_workers": 0}
    assert raised.value.retryable
    assert len(client.replies) == 0


async def test_no_reply_in_time_says_how_many_workers_could_have_given_one(settings: Settings) -> None:
    began, over = asyncio.Event(), asyncio.Event()

    @tool
    async def waits() -> None:
        began.set()
        await over.wait()

    one_at_a_time = settings.model_copy(update={"concurrency": 1})
    async with running_worker(waits, settings=one_at_a_time), ToolClient(settings) as client:
        first = asyncio.create_task(client.call("waits"))
        await began.wait()
        with pytest.raises(ToolTimeout, match=r": 1 live worker serves it, and the call may still run$") as raised:
            await client.call("waits", timeout=0.3)
        over.set()
        await first

    assert raised.value.detail == {"may_still_run": True, "live_workers": 1}


@pytest.mark.usefixtures("worker")
async def test_no_timeout_is_the_one_that_is_usual(client: ToolClient) -> None:
    assert (await client.call("echo", {"text": "x"}, timeout=None)).status == "ok"


@pytest.mark.parametrize("args", [[1], "text", 7])
async def test_arguments_without_names_are_refused_in_words(client: ToolClient, args: Any) -> None:
    with pytest.raises(InvalidArguments, match="the arguments of echo must be a mapping of names to values, not "):
        await client.call("echo", args)


async def test_a_cancelled_call_leaves_nothing_behind(client: ToolClient, worker: Answerer) -> None:
    calling = asyncio.create_task(client.call("mute"))
    await eventually(lambda: worker.seen, because="the call is sent")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    assert len(client.replies) == 0


async def test_a_call_hears_its_cancellation_at_every_step(settings: Settings, recorder: Recorder) -> None:
    """Python 3.11 loses one that meets a send; each round here begins with a connection to be made."""
    for steps in range(40):
        async with ToolClient(settings, probe=recorder.probe) as client:
            calling = asyncio.create_task(client.call("mute", timeout=5))
            for _ in range(steps):
                await asyncio.sleep(0)
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            assert len(client.replies) == 0


async def test_a_late_reply_is_let_go(client: ToolClient, worker: Answerer, raw: redis.asyncio.Redis) -> None:
    with pytest.raises(ToolTimeout):
        await client.call("held", timeout=0.05)
    worker.release.set()
    await client.call("echo")

    await eventually(lambda: _empty(raw, worker.seen[0]["reply_to"]), because="nothing is left of what was read")


async def test_send_waits_for_nothing(client: ToolClient, worker: Answerer) -> None:
    call_id = await client.send("echo", {"a": 1}, tool_call_id="call_9")
    await eventually(lambda: worker.seen, because="the call is sent")

    fields = worker.seen[0]
    assert fields["id"] == call_id
    assert fields["tool_call_id"] == "call_9"
    assert not {"reply_to", "deadline"} & fields.keys()
    assert len(client.replies) == 0


async def test_any_number_of_calls_may_be_under_way(
    client: ToolClient, worker: Answerer, raw: redis.asyncio.Redis
) -> None:
    replies = await asyncio.gather(*(client.call("echo", {"n": n}) for n in range(500)))

    assert [reply.result["n"] for reply in replies] == list(range(500))
    assert len({fields["reply_to"] for fields in worker.seen}) == 1
    await eventually(lambda: _empty(raw, worker.seen[0]["reply_to"]), because="what was read is deleted")


@pytest.mark.parametrize(
    ("tool_name", "arguments", "error"),
    [
        ("echo", {"text": "x" * 262_145}, TooLarge),
        ("echo", {"deep": json.loads("[" * 64 + "]" * 64)}, TooLarge),
        ("echo", {"nan": float("nan")}, InvalidArguments),
        ("echo", {"object": object()}, InvalidArguments),
        ("no such name", {}, InvalidArguments),
    ],
)
async def test_what_a_worker_would_refuse_is_not_sent(
    client: ToolClient,
    raw: redis.asyncio.Redis,
    *,
    tool_name: str,
    arguments: dict[str, Any],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        await client.call(tool_name, arguments)

    assert await raw.exists(client.settings.keys.calls) == 0
    assert len(client.replies) == 0


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
async def test_a_timeout_that_is_no_time_is_a_mistake(client: ToolClient, seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout must be above 0"):
        await client.call("echo", timeout=seconds)


async def test_a_client_that_is_not_open_says_so(settings: Settings, recorder: Recorder) -> None:
    client = ToolClient(settings, probe=recorder.probe)

    with pytest.raises(RuntimeError, match="inside its `with` block"):
        await client.call("echo")


async def test_tools_are_those_that_live_workers_serve(client: ToolClient, settings: Settings) -> None:
    @tool(timeout=3)
    async def search(query: str, limit: int = 10) -> list[str]:
        """Search the index."""
        return [query] * limit

    assert await client.tools() == []
    async with running_worker(search, settings=settings):
        (described,) = await client.tools()

    assert (described.name, described.description) == ("search", "Search the index.")
    assert described.schema["required"] == ["query"]
    assert described.timeout_seconds == 3


async def test_closing_deletes_the_reply_stream(
    settings: Settings, recorder: Recorder, worker: Answerer, raw: redis.asyncio.Redis
) -> None:
    async with ToolClient(settings, probe=recorder.probe) as client:
        await client.call("echo")

    assert await raw.exists(worker.seen[0]["reply_to"]) == 0


async def test_closing_answers_who_waits_and_leaves_his_stream_to_expire(
    settings: Settings, recorder: Recorder, worker: Answerer, raw: redis.asyncio.Redis
) -> None:
    async with ToolClient(settings, probe=recorder.probe) as client:
        calling = asyncio.create_task(client.call("held", timeout=60))
        await eventually(lambda: worker.seen, because="the call is sent")
        reply_to = worker.seen[0]["reply_to"]
        await raw.execute_command("XADD", reply_to, "*", "v", "1")
        await raw.expire(reply_to, 60)
    with pytest.raises(ToolTimeout, match="the caller stopped") as raised:
        await calling

    assert raised.value.detail == {"may_still_run": True}
    assert await raw.ttl(reply_to) > 0


async def _empty(raw: redis.asyncio.Redis, stream: str) -> bool:
    return bool(await raw.xlen(stream) == 0)
