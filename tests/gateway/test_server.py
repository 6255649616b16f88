"""The gateway on a real socket: how it begins, and how it ends."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import settings_for
from tests.gateway.gateways import running_gateway
from tests.support.eventually import eventually
from tests.support.variables import not_ours
from toolspan import RedisUnavailable
from toolspan.gateway.server import serve

if TYPE_CHECKING:
    import redis.asyncio

    from tests.gateway.answerer import Answerer
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


async def test_calls_come_in_over_a_socket(settings: Settings, recorder: Recorder, worker: Answerer) -> None:
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        answers = await asyncio.gather(*(_call(http, "echo", args={"n": n}) for n in range(50)))

    assert [answer.json()["result"]["n"] for answer in answers] == list(range(50))
    assert len(worker.seen) == 50
    assert "server" not in answers[0].headers
    assert [name for name, _ in gateway.told] == ["serving"]


@pytest.mark.usefixtures("worker")
async def test_who_sends_too_much_is_told_so_while_he_sends(settings: Settings, recorder: Recorder) -> None:
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        large = await _call(http, "echo", args={"text": "x" * 5_000_000})
        after = await _call(http, "echo")

    assert (large.status_code, large.json()["error"]["type"]) == (413, "too_large")
    assert after.status_code == 200


@pytest.mark.usefixtures("worker")
async def test_a_body_of_unknown_length_is_bounded_as_well(settings: Settings, recorder: Recorder) -> None:
    async with running_gateway(settings, recorder) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/tools/echo/calls HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(6):
            writer.write(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        answer = await reader.readuntil(b"\r\n")
        writer.close()

    assert answer == b"HTTP/1.1 413 Request Entity Too Large\r\n"


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("size", "status"), [(20_000, 200), (40_000, 413)])
async def test_the_head_of_a_request_is_bounded(settings: Settings, recorder: Recorder, size: int, status: int) -> None:
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        answer = await http.post("/v1/tools/echo/calls", headers={"x-large": "x" * size})
        after = await _call(http, "echo")

    assert answer.status_code == status
    assert after.status_code == 200


async def test_a_head_without_end_is_cut_off(settings: Settings, recorder: Recorder) -> None:
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/tools/echo/calls HTTP/1.1\r\nhost: x\r\nx-large: ")
        with pytest.raises(ConnectionError):
            await _without_end(writer)
        writer.close()
        live = await http.get("/livez")

    assert live.status_code == 200


async def test_who_finds_too_many_waiting_is_told_when_to_come_again(
    settings: Settings, recorder: Recorder, raw: redis.asyncio.Redis
) -> None:
    bounded = settings.model_copy(update={"backlog_limit": 2})
    async with running_gateway(bounded, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        answers = [await _call(http, "echo", detach=True) for _ in range(4)]
        known = [await _call(http, "echo", detach=True, idempotency_key="k") for _ in range(2)]

    assert [answer.status_code for answer in answers + known] == [202, 202, 429, 429, 429, 429]
    error = answers[2].json()["error"]
    assert (error["type"], error["retryable"]) == ("backlog_full", True)
    assert 1 <= int(answers[2].headers["retry-after"]) <= 3
    assert await raw.xlen(settings.keys.calls) == 2
    assert await raw.keys(f"{settings.prefix}:once:*") == []


async def test_a_client_that_hangs_up_in_the_middle_harms_nobody(
    settings: Settings, recorder: Recorder, worker: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs: list[object] = []
    monkeypatch.setattr(recorder.probe, "bug", lambda *told: bugs.append(told))
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/tools/echo/calls HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        answer = await _call(http, "echo")

    assert answer.status_code == 200
    assert len(worker.seen) == 1
    assert bugs == []


async def test_stopping_lets_open_calls_finish(settings: Settings, recorder: Recorder, worker: Answerer) -> None:
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        calling = asyncio.create_task(_call(http, "held", args={"n": 1}))
        await eventually(lambda: worker.seen, because="the call is sent")
        gateway.until.set()
        await eventually(lambda: _refuses(gateway.url), because="nobody is let in any more")
        worker.release.set()
        answer = await calling

    assert answer.json()["result"] == {"n": 1}


async def test_a_drain_that_ends_answers_open_calls_in_our_shape(
    settings: Settings, recorder: Recorder, worker: Answerer
) -> None:
    brief = settings.model_copy(update={"drain_seconds": 0.2})
    async with running_gateway(brief, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        calling = asyncio.create_task(_call(http, "mute", timeout_ms=60_000))
        await eventually(lambda: worker.seen, because="the call is sent")
        gateway.until.set()
        answer = await calling

    assert answer.status_code == 504
    assert answer.json()["error"]["detail"] == {"may_still_run": True}
    assert answer.json()["id"] == worker.seen[0]["id"]


async def test_a_client_that_never_ends_does_not_keep_the_gateway(settings: Settings, recorder: Recorder) -> None:
    brief = settings.model_copy(update={"drain_seconds": 0.1})
    async with asyncio.timeout(8), running_gateway(brief, recorder) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/tools/echo/calls HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        gateway.until.set()
        await gateway.running
        writer.close()


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_loopback_has_other_names(settings: Settings, recorder: Recorder, host: str) -> None:
    async with running_gateway(settings, recorder, host) as gateway, httpx.AsyncClient() as http:
        assert (await http.get(f"{gateway.url}/livez")).status_code == 200

    assert "unprotected" not in dict(gateway.told)


async def test_others_than_ourselves_are_let_in_with_a_warning(
    settings: Settings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 127.0.0.1 stands for an address that others can reach: tests open none.
    monkeypatch.setattr("toolspan.gateway.server._is_loopback", lambda _: False)
    async with running_gateway(settings, recorder) as gateway:
        pass

    assert gateway.told[0] == ("unprotected", ("127.0.0.1",))


async def test_it_does_not_begin_without_redis(recorder: Recorder) -> None:
    settings = settings_for("redis://127.0.0.1:1/0")
    with pytest.raises(RedisUnavailable):
        await serve(settings, host="127.0.0.1", port=0, probe=recorder.probe, until=asyncio.Event())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_ends_well_when_it_is_told_to(
    settings: Settings, worker: Answerer, number: signal.Signals
) -> None:
    environment = not_ours() | {"TOOLSPAN_REDIS_URL": settings.redis_url, "TOOLSPAN_PREFIX": settings.prefix}
    command = (sys.executable, "-m", "toolspan", "gateway", "--port", "0")
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        started = json.loads(await process.stderr.readline())
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{started['port']}") as http:
            calling = asyncio.create_task(_call(http, "held", args={"n": 1}))
            await eventually(lambda: worker.seen, because="the call is sent")
            process.send_signal(number)
            await eventually(lambda: _refuses(str(http.base_url)), because="nobody is let in any more")
            worker.release.set()
            answer = await calling
        _, rest = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert answer.json()["result"] == {"n": 1}
    assert (process.returncode, [json.loads(told)["event"] for told in rest.splitlines()]) == (0, ["gateway.stopped"])


async def _call(http: httpx.AsyncClient, tool_name: str, **body: Any) -> httpx.Response:
    return await http.post(f"/v1/tools/{tool_name}/calls", json=body, timeout=20)


async def _without_end(writer: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(10):
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()


async def _refuses(url: str) -> bool:
    async with httpx.AsyncClient() as http:
        try:
            await http.get(f"{url}/livez")
        except httpx.ConnectError:
            return True
        except httpx.TransportError:
            # Let in by the system just before the listener was closed.
            return False
        return False
