"""Whatever is sent to the gateway's socket is answered in one of its ways: nothing fails, hangs or stays behind."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from tests.gateway.gateways import running_gateway
from tests.support.eventually import eventually
from toolspan.gateway.patience import PatientProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tests.gateway.answerer import Answerer
    from tests.gateway.gateways import Gateway
    from toolspan.settings import Settings
    from toolspan.testing import Recorder

HANGS_SECONDS: Final = 10.0
TRACEPARENT: Final = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

BODIES: Final[dict[bytes, int]] = {
    b"": 200,
    b"{}": 200,
    b' {"args": {"\\u0000": "\\u0000"}} ': 200,
    b'{"args": {"n": 18446744073709551616, "m": -9223372036854775809}}': 200,
    b'{"args": {"n": -0, "m": -0.0, "o": 1e-999, "p": 1E308}}': 200,
    b'{"args": {"n": %s}}' % (b"9" * 4_300): 200,
    b'{"args": {"n": %s}}' % (b"9" * 4_301): 400,
    b'{"args": {"n": 0.%s}}' % (b"9" * 100_000): 200,
    b'{"args": {"n": 1e999}}': 400,
    b'{"args": {"n": -1e999}}': 400,
    b'{"args": {"n": NaN}}': 400,
    b'{"args": {"n": -Infinity}}': 400,
    b'{"args": {"n": 01}}': 400,
    b'{"args": {"n": 0x1}}': 400,
    b'{"args": {"x": "\\ud800"}}': 400,
    b'{"args": {"x": "\\udc00\\ud800"}}': 400,
    b'{"args": {"x": "\\ud83d\\ude00"}}': 200,
    b'{"args": {"x": "\xed\xa0\x80"}}': 400,
    b'{"args": {"x": "\xff"}}': 400,
    b'{"args": {"x": "\x00"}}': 400,
    b'{"args": {"x": "\n"}}': 400,
    b'{"args": {"x": 1, "x": 2}, "args": {"y": 1}}': 200,
    b'{"detach": true, "detach": false}': 200,
    b'{"args": {"__proto__": {}, "": [], "a.b": 1, "$ref": "#"}}': 200,
    b'{"_meta": {"traceparent": "\\r\\nx: y", "baggage": "\\u0000", "tracestate": "\\u00e9"}}': 200,
    b'{"_meta": {"traceparent": %s}}' % json.dumps("0" * 100_000).encode(): 200,
    b'{"idempotency_key": "\\u001b[31m"}': 400,
    b'{"idempotency_key": "%s"}' % ("\U0001f600" * 256).encode(): 200,
    b'{"idempotency_key": "%s"}' % ("\U0001f600" * 257).encode(): 400,
    b'{"tool_call_id": "\\u0000\\n"}': 200,
    b'{"timeout_ms": 3.6e6}': 200,
    b'{"timeout_ms": 1.5}': 400,
    b'{"timeout_ms": 1e18}': 400,
    b'{"timeout_ms": -1}': 400,
    b'{"timeout_ms": true}': 400,
    b'{"timeout_ms": 99999999999999999999999999}': 400,
    b'{"args": %s}' % (b'{"a":' * 64 + b"1" + b"}" * 64): 200,
    b'{"args": %s}' % (b'{"a":' * 65 + b"1" + b"}" * 65): 413,
    b"[" * 100_000: 413,
    b'{"args":' * 20_000: 413,
    b'{"args": {"x": "%s"}}' % (b"[" * 100_000): 200,
    b'{"args": {"x": "%s"}}' % (b"\\u0000" * 43_000): 200,
    b'{"args": {"x": "%s"}}' % (b"x" * 262_144): 413,
    b" " * 300_000: 413,
    b"\xef\xbb\xbf{}": 400,
    '{"args": {}}'.encode("utf-16"): 400,
    b"{}{}": 400,
    b"{} x": 400,
    b"null": 400,
    b"[]": 400,
    b'"args"': 400,
    b"{": 400,
    b"\x00": 400,
    b"\x1f\x8b\x08\x00": 400,
}

NAMES: Final[dict[bytes, int]] = {
    b"a" * 128: 200,
    b"a" * 129: 400,
    b"a" * 30_000: 400,
    b"9": 200,
    b"a..": 200,
    b".": 400,
    b"..": 400,
    b"%2e%2e": 400,
    b"-a": 400,
    b"%00": 400,
    b"a%00": 400,
    b"a%0d%0aX: y": 0,
    b"a%0d%0aX:%20y": 400,
    b"%ff%fe": 400,
    b"%ed%a0%80": 400,
    b"%c3%a9": 400,
    b"%ef%bc%91": 400,
    b"%": 400,
    b"%zz": 400,
    b"a%2fb": 404,
    b"a%3fb": 400,
    b"a%": 400,
    b"*": 400,
    b"{tool}": 400,
    b"a;b=c": 400,
    b"%252e": 400,
}

HEADERS: Final[dict[bytes, int]] = {
    b"traceparent: \r\n": 200,
    b"traceparent: " + b"0" * 20_000: 200,
    b"traceparent: " + TRACEPARENT + b"\r\ntracestate: " + b"a=b," * 5_000: 200,
    b"traceparent: " + TRACEPARENT + b"\r\ntracestate: " + b"=,;=,\t" * 100: 200,
    b"traceparent: " + TRACEPARENT + b"\r\nbaggage: " + b"a=%00;%zz=" + b"x" * 20_000: 200,
    b"traceparent: " + TRACEPARENT + b"\r\nbaggage: \xff\xfe\x80": 200,
    b"traceparent: " + TRACEPARENT + b"\r\ntraceparent: " + TRACEPARENT: 200,
    b"traceparent: \xc3\xa9" + TRACEPARENT: 200,
    b"traceparent: ff" + TRACEPARENT[2:]: 200,
    b"traceparent: cc" + TRACEPARENT[2:] + b"-more": 200,
    b"traceparent: 00-" + b"0" * 32 + TRACEPARENT[35:]: 200,
    b"traceparent: \x00": 0,
    b"accept: text/event-stream;q=0": 200,
    b"accept: " + b";;,,=\t" * 500: 200,
    b"content-type: \xff": 200,
    b"content-type: application/json; charset=utf-16": 200,
    b"content-encoding: gzip": 200,
    b"authorization: Bearer " + b"\xff" * 1_000: 200,
    b"x: " + b"x" * 33_000: 413,
    b"x: y\r\n" * 4_999 + b"x: y": 200,
    b"expect: 100-continue": 200,
    b"expect: nonsense": 200,
    b"upgrade: websocket\r\nconnection: upgrade": 200,
    b"connection: close, close, x": 200,
    b"content-length: 0\r\ncontent-length: 1": 0,
    b"content-length: -1": 0,
    b"content-length: " + b"9" * 30: 0,
    b"content-length: 99999999999999": 413,
    b"content-length: \xb2": 0,
    b"transfer-encoding: gzip": 0,
    b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n": 200,
    b"no colon": 0,
    b" folded: x": 200,
    b"bad name: x": 0,
    b"x: a\rb": 0,
}

REQUESTS: Final[dict[bytes, int]] = {
    b"GET /v1/tools?%00=%ff&" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n": 200,
    b"GET http://elsewhere/v1/tools HTTP/1.1\r\nhost: x\r\n\r\n": 404,
    b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n": 404,
    b"HEAD /v1/tools HTTP/1.1\r\nhost: x\r\n\r\n": 200,
    b"FOO /v1/tools HTTP/1.1\r\nhost: x\r\n\r\n": 405,
    b"GET /v1/tools HTTP/1.0\r\n\r\n": 200,
    b"GET /v1/tools HTTP/1.1\r\n\r\n": 0,
    b"GET /v1/tools HTTP/2.0\r\nhost: x\r\n\r\n": 200,
    b"GET /v1/tools\r\n\r\n": 0,
    b"GET //v1/tools HTTP/1.1\r\nhost: x\r\n\r\n": 404,
    b"GET /v1/./tools HTTP/1.1\r\nhost: x\r\n\r\n": 404,
    b"GET /%76%31/tools HTTP/1.1\r\nhost: x\r\n\r\n": 200,
    b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n": 0,
    b"GET /v1/calls/%00 HTTP/1.1\r\nhost: x\r\n\r\n": 404,
    b"GET /v1/calls/" + b"a" * 30_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n": 404,
    b"DELETE /v1/calls/%00 HTTP/1.1\r\nhost: x\r\n\r\n": 400,
    b"DELETE /v1/calls/a%0ab HTTP/1.1\r\nhost: x\r\n\r\n": 400,
    b"DELETE /v1/calls/%c2%85 HTTP/1.1\r\nhost: x\r\n\r\n": 400,
    b"DELETE /v1/calls/%ed%a0%80 HTTP/1.1\r\nhost: x\r\n\r\n": 202,
    b"DELETE /v1/calls/%f0%9f%98%80* HTTP/1.1\r\nhost: x\r\n\r\n": 202,
    b"DELETE /v1/calls/" + b"a" * 257 + b" HTTP/1.1\r\nhost: x\r\n\r\n": 400,
    b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc": 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 404,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 600: 0,
    b"\r\n\r\n\r\n": 0,
    b"\x00" * 70_000: 0,
    b"A" * 200_000: 0,
}
"""What each is answered with; 0: it is no request, and is told so (400) or hung up on."""


@pytest.fixture
async def failures(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What nobody has caught, and what was caught as a bug of ours."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    monkeypatch.setattr(recorder.probe, "bug", lambda *bug: told.append(bug))
    return told


@pytest.fixture
async def gateway(settings: Settings, recorder: Recorder, worker: Answerer) -> AsyncIterator[Gateway]:
    assert worker.seen == []
    async with running_gateway(settings, recorder) as running:
        yield running


@pytest.mark.parametrize("kind", ["bodies", "names", "headers", "requests"])
async def test_every_request_is_answered_in_one_of_our_ways(
    gateway: Gateway, failures: list[object], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    expected = {
        "bodies": {_post(b"any", b"", body): status for body, status in BODIES.items()},
        "names": {_post(name, b"", b"{}"): status for name, status in NAMES.items()},
        "headers": {_post(b"any", header + b"\r\n", None): status for header, status in HEADERS.items()},
        "requests": REQUESTS,
    }[kind]
    answered = {sent: await _status(gateway.url, [sent]) for sent in expected}

    assert {_told(sent): status for sent, status in answered.items() if status != expected[sent]} == {}
    assert failures == []
    # Nor can anybody fill the log.
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert await _status(gateway.url, [_post(b"any", b"", b"{}")]) == 200


async def test_a_body_may_come_in_pieces_of_any_size(gateway: Gateway) -> None:
    head = b"POST /v1/tools/any/calls HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [b"%x;ext=%s\r\n%c\r\n" % (1, b"e" * 100, byte) for byte in b'{"args": {"n": 1}}']

    assert await _status(gateway.url, [head, *chunks, b"0\r\ntrailer: x\r\n\r\n"]) == 200
    assert await _status(gateway.url, [head, b"ffffffffffffffff\r\n", b"x" * 300_000]) == 413
    assert await _status(gateway.url, [head, b"-1\r\n"]) == 0
    assert await _status(gateway.url, [head, b"1\r\n" + b"x" * 100]) == 0


async def test_requests_on_one_connection_are_answered_in_their_order(gateway: Gateway, worker: Answerer) -> None:
    calls = b"".join(_post(b"any", b"", b'{"args": {"n": %d}}' % n) for n in range(100))
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(gateway.url))
    writer.write(calls + b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    async with asyncio.timeout(20):
        answers = await reader.read()
    writer.close()

    assert [json.loads(fields["args"])["n"] for fields in worker.seen] == list(range(100))
    assert answers.count(b"HTTP/1.1 200 OK") == 101
    places = [answers.index(b'"result":{"n":%d}' % n) for n in range(100)]
    assert places == sorted(places)


async def test_nothing_stays_of_those_who_were_refused_or_hung_up(gateway: Gateway) -> None:
    async def misbehave() -> None:
        for sent in (*REQUESTS, *(_post(b"any", b"", body) for body in BODIES if len(body) < 1_000)):
            _, writer = await asyncio.open_connection("127.0.0.1", _port(gateway.url))
            writer.write(sent)
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    await misbehave()
    await eventually(_server_side, because="the first are forgotten")
    before = len(gc.get_objects())
    for _ in range(3):
        await misbehave()
    await eventually(_server_side, because="all are forgotten")
    gc.collect()

    assert len(gc.get_objects()) < before + 5_000


def _server_side() -> bool:
    """Whether the gateway knows of no connection any more."""
    gc.collect()
    return not any(isinstance(one, PatientProtocol) for one in gc.get_objects())


def _post(name: bytes, headers: bytes, body: bytes | None) -> bytes:
    length = b"" if body is None else b"content-length: %d\r\n" % len(body)
    return b"POST /v1/tools/%s/calls HTTP/1.1\r\nhost: x\r\n%s%s\r\n%s" % (name, headers, length, body or b"")


async def _status(url: str, sent: Iterable[bytes]) -> int:
    """Give the status of the answer; 0 where it is the server's own, to what is no HTTP, or none."""
    reader, writer = await asyncio.open_connection("127.0.0.1", _port(url))
    answer = b""
    with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(HANGS_SECONDS):
            for part in sent:
                writer.write(part)
                await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 100 "):
                answer = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    return int(answer[9:12]) if b"content-type: application/json" in answer else 0


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])


def _told(sent: bytes) -> bytes:
    return sent if len(sent) < 300 else sent[:200] + b"..." + sent[-50:]
