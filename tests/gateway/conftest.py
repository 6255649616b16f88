from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.gateway.answerer import Answerer
from toolspan.gateway.http import build_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

    from toolspan.gateway.client import ToolClient
    from toolspan.settings import Settings


@pytest.fixture
async def worker(raw: redis.asyncio.Redis, settings: Settings) -> AsyncIterator[Answerer]:
    async with Answerer(raw, settings.prefix) as working:
        yield working


@pytest.fixture
async def http(client: ToolClient) -> AsyncIterator[httpx.AsyncClient]:
    """The gateway without a socket. A bug of ours is looked at as its caller sees it."""
    transport = httpx.ASGITransport(build_app(client), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as made:
        yield made
