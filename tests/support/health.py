"""The health of a process as the outside sees it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from tests.support.processes import WorkerProcess

READY = "ready"


@dataclass(frozen=True)
class Health:
    """What answers at one port."""

    port: int

    @classmethod
    async def of(cls, worker: WorkerProcess) -> Health:
        """Find the port that *worker* says it listens on, given --health-port 0."""
        return cls(await eventually(lambda: _port(worker), because="it says where health is asked for"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def get(self, path: str) -> httpx.Response:
        # In a connection of its own each time, as those who ask for health do.
        async with httpx.AsyncClient() as http:
            return await http.get(self.url + path)

    async def live(self) -> bool:
        answer = await self.get("/livez")
        return (answer.status_code, answer.json()) == (200, {"status": "live"})

    async def error(self) -> dict[str, Any]:
        """Give the error that /readyz answers with; empty when it is ready."""
        answer = await self.get("/readyz")
        body: dict[str, Any] = answer.json()
        if answer.status_code == 200:
            assert body == {"status": "ready"}
            return {}
        assert answer.status_code == 503
        assert body["status"] == "error"
        assert set(body["error"]) == {"type", "message", "retryable", "detail"}
        error: dict[str, Any] = body["error"]
        return error

    async def state(self) -> str:
        """Say `ready`, or the type of what is wrong."""
        error = await self.error()
        return error["type"] if error else READY

    async def becomes(self, state: str, *, within: float = 15.0) -> None:
        async def arrived() -> bool:
            return await self.state() == state

        await eventually(arrived, because=f"/readyz says {state}", within=within)

    async def exchange(self, request: bytes) -> bytes:
        """Send bytes as they are, and give all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def _port(worker: WorkerProcess) -> int | None:
    assert worker.alive, worker.log.read_text()
    for line in worker.log.read_text().splitlines():
        if '"health.started"' in line:
            return int(json.loads(line)["port"])
    return None
