"""The gateway on a real socket, in the process of the test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from toolspan.gateway.server import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
async def running_gateway(settings: Settings, recorder: Recorder, host: str = "127.0.0.1") -> AsyncIterator[Gateway]:
    """Serve on a free port; stopped when the block is left."""
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
