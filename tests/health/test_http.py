"""What is answered over HTTP, whoever asks and however."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.health import READY, Health
from toolspan.health import HealthServer, Unready, listen

if TYPE_CHECKING:
    from collections.abc import Iterator


class Says:
    """What the server is told when it asks whether we are ready."""

    unready: Unready | None = None

    def __call__(self) -> Unready | None:
        return self.unready


@pytest.fixture
def says() -> Says:
    return Says()


@pytest.fixture
def health(says: Says) -> Iterator[Health]:
    with HealthServer(listen("127.0.0.1", 0), says) as server:
        yield Health(server.port)


def _told(client: socket.socket) -> bytes:
    """Give what a client is told before it is shown out; it may be so with a reset."""
    try:
        return client.recv(4_096)
    except ConnectionResetError:
        return b""


async def _asked(health: Health, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as http:
        return await http.request(method, health.url + path)


async def test_who_is_ready_says_so(health: Health) -> None:
    answer = await health.get("/readyz?verbose=1")

    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["connection"] == "close"


async def test_who_is_not_ready_says_why_and_is_live(health: Health, says: Says) -> None:
    says.unready = Unready("tired", "it is late", detail={"hour": 3})
    answer = await health.get("/readyz")

    assert answer.status_code == 503
    assert answer.headers["toolspan-status"] == "error"
    assert answer.json() == {
        "status": "error",
        "error": {"type": "tired", "message": "it is late", "retryable": True, "detail": {"hour": 3}},
    }
    assert await health.live()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/nothing"])
async def test_head_is_get_without_the_body(health: Health, path: str) -> None:
    got, head = await _asked(health, "GET", path), await _asked(health, "HEAD", path)

    assert head.status_code == got.status_code
    assert head.headers == got.headers
    assert (len(got.content), head.content) == (int(head.headers["content-length"]), b"")
    assert (await health.exchange(f"HEAD {path} HTTP/1.1\r\n\r\n".encode())).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/", "/livez/", "/readyz/x", "/metrics", "//livez"])
async def test_there_is_nothing_else(health: Health, path: str) -> None:
    answer = await health.exchange(f"GET {path} HTTP/1.1\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "not_found"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
async def test_other_methods_are_refused(health: Health, method: str) -> None:
    answer = await health.exchange(f"{method} /readyz HTTP/1.1\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nallow: GET, HEAD\r\n" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "method_not_allowed"


async def test_who_sends_a_body_still_gets_the_answer(health: Health) -> None:
    with socket.create_connection(("127.0.0.1", health.port)) as client:
        client.sendall(b"POST /livez HTTP/1.1\r\ncontent-length: 300000\r\n\r\n")
        first = client.recv(1, socket.MSG_PEEK)
        for _ in range(30):
            client.sendall(b"x" * 10_000)
        answer = client.recv(4_096)

    assert first == b"H"
    assert answer.startswith(b"HTTP/1.1 405 ")


@pytest.mark.parametrize(
    "request_line",
    [b"", b"GET", b"GET /livez", b"GET  /livez HTTP/1.1", b"GET /livez HTTP/2", b"\x16\x03\x01\x02\xff", b"\xff" * 99],
)
async def test_what_is_no_request_is_told_so(health: Health, request_line: bytes) -> None:
    answer = await health.exchange(request_line + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert await health.live()


async def test_a_request_that_is_too_long_is_refused_before_its_end(health: Health) -> None:
    answer = await health.exchange(b"GET /livez HTTP/1.1\r\nx: " + b"x" * 20_000)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_connection_serves_one_request(health: Health) -> None:
    answer = await health.exchange(b"GET /livez HTTP/1.1\r\n\r\n" * 3)

    assert answer.count(b"HTTP/1.1 ") == 1


async def test_who_does_not_ask_is_shown_out(health: Health) -> None:
    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(health.exchange(begun) for begun in (b"", b"GET /li", b"GET /livez HTTP/1.1")))

    assert answers == [b"", b"", b""]


async def test_many_who_do_not_ask_keep_nobody_from_asking(health: Health) -> None:
    with ExitStack() as idle:
        clients = [
            idle.enter_context(socket.create_connection(("127.0.0.1", health.port), timeout=1)) for _ in range(90)
        ]
        async with asyncio.timeout(1):
            state = await health.state()
        first = _told(clients[0])

    assert state == READY
    # To make room for the others, long before its time was over.
    assert first == b""


async def test_who_leaves_early_harms_nobody(says: Says, caplog: pytest.LogCaptureFixture) -> None:
    with HealthServer(listen("127.0.0.1", 0), says) as server:
        for sent in (b"", b"GET /livez", b"GET /livez HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                # With this, closing resets the connection.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(sent)
        live = await Health(server.port).live()

    assert live
    assert caplog.records == []


async def test_a_server_that_ends_leaves_nobody_connected_and_its_port_free(
    says: Says, caplog: pytest.LogCaptureFixture
) -> None:
    with HealthServer(listen("127.0.0.1", 0), says) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=0.5)
        live = await Health(server.port).live()
    with client:
        told = _told(client)
    with HealthServer(listen("127.0.0.1", server.port), says) as again:
        live_again = await Health(again.port).live()

    assert live
    assert told == b""
    assert live_again
    assert caplog.records == []


async def test_it_listens_on_ipv6_too(says: Says) -> None:
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with HealthServer(listener, says) as server:
        async with httpx.AsyncClient() as http:
            answer = await http.get(f"http://[::1]:{server.port}/livez")

    assert answer.json() == {"status": "live"}
