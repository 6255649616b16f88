"""The gateway on a real socket: how it begins, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from toolspan import RedisUnavailable
from toolspan.gateway.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.answerer import Answerer
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


class Gateway:
    """A running gateway: where it is, and how it is told to stop."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Any, ...]]] = []
        self.until = asyncio.Event()
        self.running: asyncio.Task[None]

    @property
    def url(self) -> str:
        host, port = dict(self.told)["serving"]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def _gateway(settings: Settings, recorder: Recorder, host: str = "127.0.0.1") -> AsyncIterator[Gateway]:
    gateway, probe = Gateway(), recorder.probe
    with pytest.MonkeyPatch.context() as patch:
        for name in ("serving", "unprotected"):
            patch.setattr(probe, name, lambda *told, name=name: gateway.told.append((name, told)))
        gateway.running = asyncio.create_task(serve(settings, host=host, port=0, probe=probe, until=gateway.until))
        await eventually(lambda: dict(gateway.told).get("serving"), because="it listens")
        try:
            yield gateway
        finally:
            gateway.until.set()
            await gateway.running


async def test_calls_come_in_over_a_socket(settings: Settings, recorder: Recorder, worker: Answerer) -> None:
    async with _gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        answers = await asyncio.gather(*(_call(http, "echo", args={"n": n}) for n in range(50)))

    assert [answer.json()["result"]["n"] for answer in answers] == list(range(50))
    assert len(worker.seen) == 50
    assert "server" not in answers[0].headers
    assert [name for name, _ in gateway.told] == ["serving"]


@pytest.mark.usefixtures("worker")
async def test_who_sends_too_much_is_told_so_while_he_sends(settings: Settings, recorder: Recorder) -> None:
    async with _gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        large = await _call(http, "echo", args={"text": "x" * 5_000_000})
        after = await _call(http, "echo")

    assert (large.status_code, large.json()["error"]["type"]) == (413, "too_large")
    assert after.status_code == 200


async def test_a_client_that_hangs_up_in_the_middle_harms_nobody(
    settings: Settings, recorder: Recorder, worker: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs: list[object] = []
    monkeypatch.setattr(recorder.probe, "bug", lambda *told: bugs.append(told))
    async with _gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
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
    async with _gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
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
    async with _gateway(brief, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        calling = asyncio.create_task(_call(http, "mute", timeout_ms=60_000))
        await eventually(lambda: worker.seen, because="the call is sent")
        gateway.until.set()
        answer = await calling

    assert answer.status_code == 504
    assert answer.json()["error"]["detail"] == {"may_still_run": True}
    assert answer.json()["id"] == worker.seen[0]["id"]


async def test_a_client_that_never_ends_does_not_keep_the_gateway(settings: Settings, recorder: Recorder) -> None:
    brief = settings.model_copy(update={"drain_seconds": 0.1})
    async with asyncio.timeout(8), _gateway(brief, recorder) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"POST /v1/tools/echo/calls HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        gateway.until.set()
        await gateway.running
        writer.close()


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_loopback_has_other_names(settings: Settings, recorder: Recorder, host: str) -> None:
    async with _gateway(settings, recorder, host) as gateway, httpx.AsyncClient() as http:
        assert (await http.get(f"{gateway.url}/livez")).status_code == 200

    assert "unprotected" not in dict(gateway.told)


async def test_others_than_ourselves_are_let_in_with_a_warning(
    settings: Settings, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 127.0.0.1 stands for an address that others can reach: tests open none.
    monkeypatch.setattr("toolspan.gateway.server._is_loopback", lambda _: False)
    async with _gateway(settings, recorder) as gateway:
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
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOOLSPAN_")}
    environment |= {"TOOLSPAN_REDIS_URL": settings.redis_url, "TOOLSPAN_PREFIX": settings.prefix}
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
    assert (process.returncode, rest.decode()) == (0, "")


async def _call(http: httpx.AsyncClient, tool_name: str, **body: Any) -> httpx.Response:
    return await http.post(f"/v1/tools/{tool_name}/calls", json=body, timeout=20)


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
