"""Progress and cancellation as callers meet them: over a real socket, with a real worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.requests import Request

from tests.gateway.gateways import running_gateway
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.toolbox import echo, fails, marked, tells, tells_sync, tells_wrongly
from toolspan import SyncToolClient, ToolCancelled, ToolClient, ToolError, UnknownTool
from toolspan.gateway import http as front_door
from toolspan.gateway.events import asks_for_events
from toolspan.gateway.streams import KEPT
from toolspan.model import Progress
from toolspan.store.scripts import compose
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer, Recorder

TOOLS = (echo, fails, marked, tells, tells_sync, tells_wrongly)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "runs")


@asynccontextmanager
async def served(settings: Settings, recorder: Recorder) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running_worker(*TOOLS, settings=settings, probe=recorder.probe),
        running_gateway(settings, recorder) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=30) as http,
    ):
        yield http


def begun(path: str) -> bool:
    return Path(path).exists()


def was_cancelled(recorder: Recorder) -> bool:
    return recorder.total("toolspan.calls", toolspan_outcome="cancelled") == 1


def events_in(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


async def test_a_client_that_hangs_up_cancels_its_call(settings: Settings, recorder: Recorder, path: str) -> None:
    async with served(settings, recorder) as http:
        body = {"args": {"path": path, "seconds": 60}, "timeout_ms": 60_000}
        asking = asyncio.create_task(http.post("/v1/tools/marked/calls", json=body))
        await eventually(lambda: begun(path), because="it runs")
        asking.cancel()

        await eventually(lambda: was_cancelled(recorder), because="the call was cancelled")


async def test_so_does_one_that_follows_it(settings: Settings, recorder: Recorder, path: str) -> None:
    async with served(settings, recorder) as http:
        body = {"args": {"path": path, "steps": 1, "release": "/nowhere"}}
        async with http.stream(
            "POST", "/v1/tools/tells/calls", json=body, headers={"Accept": "text/event-stream"}
        ) as response:
            async for line in response.aiter_lines():
                if line == "event: progress":
                    break

        await eventually(lambda: was_cancelled(recorder), because="the call was cancelled")


async def test_a_detached_call_is_cancelled_only_on_request(settings: Settings, recorder: Recorder, path: str) -> None:
    async with served(settings, recorder) as http:
        body = {"args": {"path": path, "seconds": 60}, "timeout_ms": 60_000, "detach": True}
        call_id = (await http.post("/v1/tools/marked/calls", json=body)).json()["id"]
        await eventually(lambda: begun(path), because="it runs on, for whoever sent it has his answer")
        assert (await http.get(f"/v1/calls/{call_id}")).status_code == 202
        cancelling = await http.delete(f"/v1/calls/{call_id}")
        assert (cancelling.status_code, cancelling.json()) == (202, {"id": call_id})

        await eventually(lambda: was_cancelled(recorder), because="the call was cancelled")
        reply: Any = await eventually(lambda: _ended(http, call_id), because="its reply is here")
        assert reply["error"]["type"] == "cancelled"
        assert reply["error"]["detail"] == {"started": True}


async def _ended(http: httpx.AsyncClient, call_id: str) -> Any:
    answer = await http.get(f"/v1/calls/{call_id}")
    return answer.json() if answer.status_code == 200 else None


async def test_progress_comes_as_events_and_the_plain_answer_at_the_end(
    settings: Settings, recorder: Recorder, path: str
) -> None:
    async with served(settings, recorder) as http:
        answer = await http.post(
            "/v1/tools/tells/calls",
            json={"args": {"path": path, "steps": 2}},
            headers={"Accept": "application/json;q=0.5, text/event-stream"},
        )

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert "traceresponse" in answer.headers
    told = events_in(answer.text)
    assert [name for name, _ in told] == ["progress", "progress", "reply"]
    assert [(data["result"], data["seq"], data["attempt"], data["status"]) for _, data in told[:2]] == [
        ({"step": 0}, 1, 1, "progress"),
        ({"step": 1}, 2, 1, "progress"),
    ]
    assert (told[2][1]["status"], told[2][1]["result"]) == ("ok", 2)
    assert {data["id"] for _, data in told} == {told[2][1]["id"]}


async def test_errors_before_the_start_are_ordinary_answers_and_later_ones_are_events(
    settings: Settings, recorder: Recorder
) -> None:
    async with served(settings, recorder) as http:
        headers = {"Accept": "text/event-stream"}
        large = {"args": {"text": "x" * 300_000}}
        assert (await http.post("/v1/tools/echo/calls", json=large, headers=headers)).status_code == 413
        assert (await http.post("/v1/tools/a%20b/calls", json={}, headers=headers)).status_code == 400
        [(name, data)] = events_in((await http.post("/v1/tools/fails/calls", json={}, headers=headers)).text)
        assert (name, data["status"], data["error"]["type"]) == ("reply", "error", "tool_error")
        [(name, data)] = events_in((await http.post("/v1/tools/none/calls", json={}, headers=headers)).text)
        assert (name, data["error"]["type"]) == ("reply", "unknown_tool")


async def test_silence_is_filled_so_that_nothing_in_between_hangs_up(
    settings: Settings, recorder: Recorder, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_door, "KEEP_ALIVE_SECONDS", 0.05)
    async with served(settings, recorder) as http:
        body = {"args": {"path": path, "seconds": 0.5}}
        answer = await http.post("/v1/tools/marked/calls", json=body, headers={"Accept": "text/event-stream"})

    assert answer.text.startswith(": keep-alive\n\n")
    assert events_in(answer.text)[-1][1]["result"] == 1


async def test_a_call_that_is_cancelled_in_the_program_is_cancelled_everywhere(
    settings: Settings, recorder: Recorder, client: ToolClient, path: str
) -> None:
    async with running_worker(*TOOLS, settings=settings, probe=recorder.probe):
        calling = asyncio.create_task(client.call("marked", {"path": path, "seconds": 60}))
        await eventually(lambda: begun(path), because="it runs")
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling

        await eventually(lambda: was_cancelled(recorder), because="the call was cancelled")


async def test_any_client_cancels_a_call_that_any_other_sent(
    settings: Settings, recorder: Recorder, client: ToolClient, path: str
) -> None:
    async with (
        running_worker(*TOOLS, settings=settings),
        ToolClient(settings, probe=recorder.probe) as other,
        client.stream("tells", {"path": path, "steps": 1, "release": "/nowhere"}) as following,
    ):
        first = await anext(following)
        assert first.value == {"step": 0}
        await other.cancel(following.call_id)

        with pytest.raises(ToolCancelled) as raised:
            await anext(following)
        assert raised.value.detail == {"started": True}


async def test_a_cancellation_outlives_its_call_by_no_more_than_a_margin(plane: Plane, client: ToolClient) -> None:
    calling = asyncio.create_task(client.call("nobody", timeout=20))
    await eventually(plane.left, because="it waits")
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling

    key: Any = await eventually(lambda: plane.redis.keys(f"{plane.keys.cancel_prefix}*"), because="it is told")
    assert 20_000 < await plane.redis.pttl(key[0]) <= 30_000


async def test_a_call_is_followed_in_the_program(settings: Settings, client: ToolClient, path: str) -> None:
    async with running_worker(*TOOLS, settings=settings):
        async with client.stream("tells.sync", {"path": path, "steps": 3}) as following:
            told = [(progress.value["step"], progress.seq) async for progress in following]
            reply = await following.reply()
        assert told == [(0, 1), (1, 2), (2, 3)]
        assert reply.result == 3

        async with client.stream("fails") as following:
            with pytest.raises(ToolError, match="it broke"):
                await anext(following)
        async with client.stream("none") as following:
            with pytest.raises(UnknownTool):
                await following.reply()


async def test_leaving_before_the_reply_cancels_the_call(
    settings: Settings, recorder: Recorder, client: ToolClient, path: str
) -> None:
    async with running_worker(*TOOLS, settings=settings, probe=recorder.probe):
        async with client.stream("tells", {"path": path, "steps": 1, "release": "/nowhere"}) as following:
            await anext(following)

        await eventually(lambda: was_cancelled(recorder), because="the call was cancelled")


async def test_a_call_is_followed_without_asyncio(settings: Settings, recorder: Recorder, path: str) -> None:
    def follow() -> tuple[list[Any], Any]:
        with (
            SyncToolClient(settings, probe=recorder.probe) as tools,
            tools.stream("tells", {"path": path, "steps": 2}) as following,
        ):
            return [progress.value for progress in following], following.reply().result

    async with running_worker(*TOOLS, settings=settings):
        assert await asyncio.to_thread(follow) == ([{"step": 0}, {"step": 1}], 2)


@pytest.mark.parametrize(("kind", "said"), [("object", "serialize"), ("large", "bytes"), ("deep", "levels")])
async def test_progress_that_cannot_be_sent_is_the_tools_own_error(
    settings: Settings, client: ToolClient, kind: str, said: str
) -> None:
    async with running_worker(*TOOLS, settings=settings):
        with pytest.raises(ToolError, match=said):
            await client.call("tells_wrongly", {"kind": kind})


async def test_progress_that_nobody_waits_for_is_dropped(
    plane: Plane, settings: Settings, client: ToolClient, path: str
) -> None:
    async with running_worker(*TOOLS, settings=settings):
        await plane.append("tells", path=path, steps=50, reply=False)
        await eventually(lambda: _settled(plane), because="it is settled")
        assert (await client.call("tells", {"path": path, "steps": 50})).result == 50

    assert await plane.dead_letters() == []


async def test_a_flood_of_progress_pushes_nobodys_reply_out(plane: Plane, settings: Settings, path: str) -> None:
    small = settings.model_copy(update={"reply_maxlen": 100})
    async with running_worker(*TOOLS, settings=small):
        for number in range(40):
            await plane.append("echo", f"call {number}")
        await eventually(lambda: _settled(plane), because="they are answered, but nobody reads")
        await plane.append("tells", path=path, steps=12)
        reply: Any = await eventually(lambda: plane.reply("tells"), because="the tool went on", within=60)

        assert reply.result == 12
        assert len(await plane.progress("tells")) == 10
        assert len(await plane.replies()) == 41


async def _settled(plane: Plane) -> bool:
    return not await plane.left()


@pytest.mark.parametrize(
    ("accept", "asked"),
    [
        ("text/event-stream", True),
        ("application/json, TEXT/Event-Stream;q=0.3", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q = 0.000, */*", False),
        ("*/*", False),
    ],
)
def test_events_are_for_those_who_name_them_and_do_not_refuse_them(*, accept: str, asked: bool) -> None:
    request = Request({"type": "http", "headers": [(b"accept", accept.encode())]})

    assert asks_for_events(request) is asked


async def test_progress_that_comes_twice_or_late_is_told_once(client: ToolClient) -> None:
    async with client.stream("tells", {}) as stream:
        for attempt, seq in ((1, 1), (1, 2), (1, 1), (1, 2), (2, 1), (1, 3), (2, 2)):
            stream.progressed(_progress(attempt, seq))
        told = [await stream.next_progress() for _ in range(4)]

        assert [(one.attempt, one.seq) for one in told if one] == [(1, 1), (1, 2), (2, 1), (2, 2)]
        assert not stream._unread


async def test_of_progress_that_nobody_takes_the_oldest_is_let_go(client: ToolClient) -> None:
    async with client.stream("tells", {}) as stream:
        for seq in range(1, KEPT + 11):
            stream.progressed(_progress(1, seq))
        first = await stream.next_progress()

        assert first
        assert first.seq == 11


def _progress(attempt: int, seq: int) -> Progress:
    return Progress("call", "1-0", None, seq, attempt, "worker")


async def test_whoever_gives_up_before_the_call_is_accepted_leaves_nothing_running(
    settings: Settings, recorder: Recorder, server: EmbeddedServer
) -> None:
    append = hashlib.sha1(compose("append").encode(), usedforsecurity=False).hexdigest()
    async with Proxy(server.port) as proxy:
        proxy.hold(append.encode())
        away = settings.model_copy(update={"redis_url": proxy.url})
        async with ToolClient(away, probe=recorder.probe) as client:
            entering = asyncio.create_task(client.stream("echo", {}).begin())
            await eventually(lambda: proxy.holds, because="the call is on its way")
            entering.cancel()
            await asyncio.wait({entering})
            left = [task for task in asyncio.all_tasks() if task.get_name().startswith("call ")]
            proxy.let_go()

            assert not left
