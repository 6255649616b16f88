"""Nobody keeps the gateway waiting: heads, bodies and readers that are too slow have an end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.gateway.gateways import running_gateway
from tests.support.eventually import eventually
from toolspan.gateway import patience, requests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.answerer import Answerer
    from toolspan.settings import Settings
    from toolspan.testing import Recorder

CALL = b"POST /v1/tools/echo/calls HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (patience, "HEAD_SECONDS"),
        (patience, "FAREWELL_SECONDS"),
        (patience, "READING_SECONDS"),
        (requests, "BODY_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.2)


@pytest.fixture
async def url(settings: Settings, recorder: Recorder, worker: Answerer) -> AsyncIterator[str]:
    assert worker.seen == []
    async with running_gateway(settings, recorder) as gateway:
        yield gateway.url


@pytest.mark.parametrize(
    "sent", [b"", b"GET /livez HT", CALL, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET /livez HTTP/1.1\r\nho"]
)
async def test_a_head_that_does_not_come_in_time_ends_its_connection(url: str, sent: bytes) -> None:
    async with _connected(url) as (reader, writer):
        writer.write(sent)
        answers = await _all(reader)

    assert answers.count(b"HTTP/1.1 200 OK") == sent.count(b"\r\n\r\n")


async def test_bytes_now_and_then_gain_no_time(url: str) -> None:
    async with _connected(url) as (reader, writer):
        writer.write(CALL)
        ended = asyncio.create_task(_all(reader))
        while not ended.done():
            writer.write(b"x: y\r\n")
            await asyncio.wait({ended}, timeout=0.02)

    assert ended.result() == b""


@pytest.mark.parametrize("head", [b"content-length: 100\r\n\r\n{", b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"])
async def test_a_body_that_does_not_come_in_time_is_refused(url: str, worker: Answerer, head: bytes) -> None:
    async with _connected(url) as (reader, writer):
        writer.write(CALL + head)
        answer = await _all(reader)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"type":"too_slow"' in answer
    assert worker.seen == []


async def test_who_has_his_answer_may_not_go_on_sending_for_ever(url: str) -> None:
    async with _connected(url) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        ended = asyncio.create_task(_all(reader))
        while not ended.done():
            writer.write(b"1\r\nx\r\n")
            await asyncio.wait({ended}, timeout=0.02)

    assert ended.result().startswith(b"HTTP/1.1 200 OK")


async def test_who_does_not_read_his_answers_is_cut_off(url: str) -> None:
    args = b'{"args":{"text":"%s"}}' % (b"x" * 200_000)
    call = CALL + b"content-length: %d\r\n\r\n%s" % (len(args), args)
    async with _connected(url, limit=1) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionError):
            await _write_without_end(writer, call)
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.get("/livez")).status_code == 200


async def test_who_waits_for_his_answer_is_not_hurried(url: str, worker: Answerer) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        calling = asyncio.create_task(http.post("/v1/tools/held/calls", json={"args": {"n": 1}}))
        await eventually(lambda: worker.seen, because="the call is sent")
        async with _connected(url) as (reader, _):
            # Longer than all the patience that there is.
            assert await _all(reader) == b""
        worker.release.set()
        answer = await calling

    assert answer.json()["result"] == {"n": 1}


async def test_what_is_no_http_behind_a_call_ends_the_connection_and_no_more(
    url: str, worker: Answerer, unhandled: list[dict[str, Any]]
) -> None:
    for sent, status in (
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /livez HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n", b""),
        (CALL + b"transfer-encoding: chunked\r\n\r\nnonsense\r\n", b""),
        (CALL + b"content-length: 2\r\n\r\n{}nonsense\r\n\r\n", b"200"),
    ):
        async with _connected(url) as (reader, writer):
            writer.write(sent)
            answer = await _all(reader)
        assert answer[9:12] == status
    async with httpx.AsyncClient(base_url=url) as http:
        assert (await http.post("/v1/tools/echo/calls")).status_code == 200

    assert [fields["args"] for fields in worker.seen] == ["{}", "{}"]
    assert unhandled == []


@pytest.fixture
async def unhandled() -> list[dict[str, Any]]:
    """What the loop is told that nobody has caught."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    return told


async def _write_without_end(writer: asyncio.StreamWriter, sent: bytes) -> None:
    while True:
        writer.write(sent)
        await writer.drain()


async def _all(reader: asyncio.StreamReader) -> bytes:
    """Give what is answered before the connection ends, in whatever way."""
    answer = b""
    with suppress(ConnectionError):
        while more := await reader.read(65_536):
            answer += more
    return answer


@asynccontextmanager
async def _connected(
    url: str, *, limit: int = 65_536
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    port = int(url.rpartition(":")[2])
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
