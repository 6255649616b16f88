"""The head of a request has a bound while it comes in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.gateway.gateways import running_gateway
from toolspan.gateway.requests import HEAD_BYTES

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


@pytest.mark.usefixtures("worker")
async def test_headers_without_end_are_refused_while_they_come_in(settings: Settings, recorder: Recorder) -> None:
    async with running_gateway(settings, recorder) as gateway, httpx.AsyncClient(base_url=gateway.url) as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: here\r\n")
        sent = 0
        with suppress(ConnectionError):
            while not reader.at_eof() and sent < 100 * HEAD_BYTES:
                writer.write(b"X-More: " + b"x" * 1_000 + b"\r\n")
                await writer.drain()
                sent += 1_010
                await asyncio.sleep(0)
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()
        writer.transport.abort()
        after = await http.get("/livez")
        usual = await http.get("/livez", headers={"X-Usual": "x" * 8_000})

    assert sent < 100 * HEAD_BYTES
    assert not answer or answer.startswith(b"HTTP/1.1 400 ")
    assert (after.status_code, usual.status_code) == (200, 200)
