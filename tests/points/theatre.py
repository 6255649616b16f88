"""Plays a scenario: a worker dies at a point of it, another one comes after it, and every promise is looked at."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from tests.points.nest import KILLED
from tests.points.promises import broken
from tests.points.scenarios import Scenario
from tests.points.stage import Stage
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from toolspan.settings import Settings
from toolspan.store import Connection

if TYPE_CHECKING:
    from pathlib import Path

    from tests.points.code import Code
    from tests.points.nest import Child, Nest
    from toolspan.testing import EmbeddedServer

_LEASE_MS: Final = 400
_LEAVE_SECONDS: Final = 5.0
_END_SECONDS: Final = 30.0
_TOOLS: Final = ("--tools", "tests.support.toolbox", "--tools", "tests.points.tools")
_prefixes = count()


@dataclass(frozen=True, slots=True)
class Played:
    """What became of it: where the worker was, whether it died there, and which promises were broken."""

    visited: list[tuple[int, int]]
    died: bool
    problems: list[str]
    lines: str = ""
    """What the workers said, if there are problems."""


class Theatre:
    """Plays on one server, as many at once as are asked for."""

    def __init__(self, server: EmbeddedServer, connection: Connection, nest: Nest, code: Code, folder: Path) -> None:
        self._server = server
        self._connection = connection
        self._nest = nest
        self._code = code
        self._folder = folder

    async def play(self, kind: type[Scenario], end: tuple[int, int] | None) -> Played:
        """Let the worker die at *end*, or else drain in the end."""
        prefix = f"points{next(_prefixes)}"
        fields: dict[str, Any] = {"reap_after_ms": 60_000, **kind.shared}
        settings = Settings(redis_url=self._server.url, prefix=prefix, lease_ms=_LEASE_MS, **fields)
        stage = Stage(settings, self._connection.commands, self._connection, self._folder / prefix, self._code)
        scenario = kind()
        async with AsyncExitStack() as closing:
            mortal = settings.model_copy(update=dict(kind.settings))
            if kind.proxied:
                scenario.proxy = await closing.enter_async_context(Proxy(self._server.port))
                mortal = mortal.model_copy(update={"redis_url": scenario.proxy.url})
            await scenario.prepare(stage)
            stage.worker = await self._start(mortal, kind, end)
            await self._until_it_ended(scenario, stage)
            await scenario.afterwards(stage)
        problems = []
        rescuer = None
        if not await stage.over():
            rescuer = await self._start(settings, kind)
            try:
                await eventually(stage.over, because="every call has its end", within=_END_SECONDS)
            except AssertionError as exc:
                problems.append(str(exc))
            await rescuer.kill()
        problems += await broken(stage)
        await self._clear(stage)
        workers = [stage.worker, *([rescuer] if rescuer else [])]
        lines = "\n".join(f"--- {one.log}\n{one.log.read_text()}" for one in workers) if problems else ""
        return Played(stage.worker.visited(), stage.worker.ended.result() == KILLED, problems, lines)

    async def _start(self, settings: Settings, kind: type[Scenario], end: tuple[int, int] | None = None) -> Child:
        arguments = ("worker", *_TOOLS, "--concurrency", str(kind.concurrency))
        return await self._nest.bear(settings, *arguments, program=kind.program, end=end)

    async def _until_it_ended(self, scenario: Scenario, stage: Stage) -> None:
        worker = stage.worker
        acting = asyncio.create_task(scenario.act(stage))
        await asyncio.wait({acting, worker.ended}, return_when=asyncio.FIRST_COMPLETED)
        if acting.done():
            acting.result()
            worker.signal(signal.SIGTERM)
            await asyncio.wait({worker.ended}, timeout=_LEAVE_SECONDS)
        acting.cancel()
        with suppress(asyncio.CancelledError):
            await acting
        await worker.kill()

    async def _clear(self, stage: Stage) -> None:
        keys = [key async for key in stage.redis.scan_iter(f"{stage.settings.prefix}:*", count=1_000)]
        if keys:
            await stage.redis.delete(*keys)
