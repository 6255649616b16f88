"""Ends that a worker has to remember under the caller's key although the caller does not hear of them from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from tests.support.runs import starts
from toolspan import InvalidArguments, ToolClient, ToolError, ToolExecConsumer, UnknownTool
from toolspan.testing import running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import Recorder

ALL = Registry.load(["tests.support.toolbox"])


@pytest.fixture
async def second(settings: Settings, recorder: Recorder) -> AsyncIterator[ToolClient]:
    """Another caller, in another process as far as Redis can tell."""
    async with ToolClient(settings, probe=recorder.probe) as made:
        yield made


async def test_what_was_sent_and_failed_is_a_dead_letter_and_remembered(client: ToolClient, plane: Plane) -> None:
    async with running_worker(ALL, settings=plane.settings):
        call_id = await client.send("fails", idempotency_key="k")
        await eventually(plane.dead_letters, because="nobody waits for it")
        with pytest.raises(ToolError, match="it broke") as raised:
            await client.call("fails", idempotency_key="k")

    assert raised.value.reply is not None
    assert raised.value.reply.call_id == call_id


async def test_what_was_sent_and_succeeded_is_remembered(client: ToolClient, plane: Plane, tmp_path: Path) -> None:
    arguments = {"path": str(tmp_path / "runs")}
    async with running_worker(ALL, settings=plane.settings):
        call_id = await client.send("marked", arguments, idempotency_key="k")
        reply = await client.call("marked", arguments, idempotency_key="k")

    assert (reply.call_id, reply.result) == (call_id, 1)


async def test_a_result_whose_reply_cannot_be_written_is_remembered_as_what_it_is(
    client: ToolClient, plane: Plane, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    reply_to = plane.keys.replies("on-purpose")
    await plane.redis.set(reply_to, "no stream")
    call = replace(client.asking.new_call("marked", {"path": str(runs)}, idempotency_key="k"), reply_to=reply_to)
    with client.probe.calling(tool=call.tool, call_id=call.id) as calling:
        fields = client.asking._encoded(call, calling)
        await client._once.send(call, fields, calling, timeout=5)
    async with running_worker(ALL, settings=plane.settings):
        [letter] = await eventually(plane.dead_letters, because="its reply cannot be written")
        reply = await client.call("marked", {"path": str(runs)}, idempotency_key="k")

    assert letter.reason == "reply_failed"
    assert (reply.call_id, reply.result) == (call.id, 1)
    assert starts(runs) == 1


async def test_a_call_that_a_worker_cannot_decode_is_remembered_as_malformed(
    client: ToolClient, second: ToolClient, plane: Plane
) -> None:
    strict = plane.settings.model_copy(update={"max_args_bytes": 100})
    ids = set()
    async with running_worker(ALL, settings=strict):
        for caller in (client, second):
            with pytest.raises(InvalidArguments, match="args has") as raised:
                await caller.call("echo", {"text": "x" * 200}, idempotency_key="k", principal="ada")
            ids.add(raised.value.reply and raised.value.reply.call_id)

    assert len(ids) == 1
    assert len(await plane.dead_letters()) == 1


@pytest.mark.parametrize("form", ["fields", "payload"])
async def test_a_call_of_a_version_that_nobody_reads_is_remembered_as_that(
    client: ToolClient, plane: Plane, form: str
) -> None:
    call = client.asking.new_call("echo", idempotency_key="k")
    with client.probe.calling(tool=call.tool, call_id=call.id) as calling:
        fields = client.asking._encoded(call, calling)
        if form == "fields":
            fields[1] = "2"
        else:
            fields = ["payload", f'{{"v":2,"id":"{call.id}","tool":"echo","idem":"k"}}']
        await client._once.send(call, fields, calling, timeout=5)
    async with running_worker(ALL, settings=plane.settings):
        await eventually(lambda: _ended(plane), because="the worker gives up on it")
        with pytest.raises(UnknownTool, match="version 2") as raised:
            await client.call("echo", idempotency_key="k")

    assert raised.value.type == "unknown_tool"
    assert raised.value.reply is not None
    assert raised.value.reply.call_id == call.id


async def test_a_program_that_replies_by_itself_runs_it_once(
    client: ToolClient, plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it answers is its own; that it has run is remembered."""
    seen: list[dict[str, Any]] = []

    async def process(payload: dict[str, Any]) -> None:
        seen.append(payload)

    monkeypatch.setenv("TOOLSPAN_PREFIX", plane.settings.prefix)
    consumer = ToolExecConsumer(plane.redis, "program", process, autoclaim_min_idle=plane.settings.lease_ms)
    await consumer.start()
    ids = {await client.send("echo", {"text": "a"}, idempotency_key="k")}
    await eventually(lambda: _ended(plane), because="it is settled")
    ids.add(await client.send("echo", {"text": "a"}, idempotency_key="k"))
    await consumer.stop()

    assert len(ids) == 1
    assert len(seen) == 1


async def _ended(plane: Plane) -> bool:
    return not await plane.left()
