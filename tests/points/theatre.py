"""Plays a scenario: a worker dies at a point of it, another one comes after it, and every promise is looked at."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from tests.points.nest import KILLED
from tests.points.promises import broken
from tests.points.scenarios import SCENARIOS, Scenario
from tests.points.stage import Stage
from tests.support.proxy import Proxy
from toolspan.settings import Settings
from toolspan.store import Connection

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tests.points.code import Code
    from tests.points.nest import Child, Nest
    from toolspan.testing import EmbeddedServer

_LEASE_MS: Final = 600
_LEAVE_SECONDS: Final = 5.0
_END_SECONDS: Final = 60.0
_EXPECTED: Final = {KILLED, 0, 1, 3}
"""It died as it should; left in order; left in order, and gave back what did not end in time; could not reach Redis."""

TOOLS: Final = ("tests.support.toolbox", "tests.points.tools")
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

    kinds: ClassVar = SCENARIOS
    at_once: ClassVar = 10

    def __init__(self, server: EmbeddedServer, connection: Connection, nest: Nest, code: Code, folder: Path) -> None:
        self._server = server
        self._connection = connection
        self._nest = nest
        self._code = code
        self._folder = folder

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def left(self) -> list[str]:
        """Say what is left behind once all is played: that is looked at after each scenario."""
        return []

    async def play(self, kind: type[Scenario], ends: Collection[int] = ()) -> Played:
        """Let the worker die at the first of the places *ends*, or else drain in the end."""
        prefix = f"points{next(_prefixes)}"
        fields: dict[str, Any] = {"lease_ms": _LEASE_MS, "reap_after_ms": 60_000, **kind.shared}
        settings = Settings(redis_url=self._server.url, prefix=prefix, **fields)
        stage = Stage(settings, self._connection.commands, self._connection, self._folder / prefix, self._code)
        scenario = kind()
        async with AsyncExitStack() as closing:
            mortal = settings.model_copy(update=dict(kind.settings))
            if kind.proxied:
                scenario.proxy = await closing.enter_async_context(Proxy(self._server.port))
                mortal = mortal.model_copy(update={"redis_url": scenario.proxy.url})
            await scenario.prepare(stage)
            stage.workers = [self._start(mortal, kind, *kind.tools, ends=ends)]
            await self._until_it_ended(scenario, stage)
            await scenario.afterwards(stage)
        problems = (
            [] if await self._rescued(stage, kind) else [f"not all calls have their ends after {_END_SECONDS:g} s"]
        )
        code = stage.worker.ended.result()
        if code not in _EXPECTED:
            problems.append(f"it ended with {code}")
        problems += await broken(stage)
        await stage.clear()
        lines = "\n".join(f"--- {one.log}\n{one.log.read_text()}" for one in stage.workers) if problems else ""
        return Played(stage.worker.visited(), code == KILLED, problems, lines)

    async def _rescued(self, stage: Stage, kind: type[Scenario]) -> bool:
        """Have other workers come, as an orchestrator would, until all calls have their ends; tell whether they do."""
        deadline = time.monotonic() + _END_SECONDS
        while not await stage.over():
            if time.monotonic() > deadline:
                return False
            rescuer = self._start(stage.settings, kind)
            stage.workers.append(rescuer)
            await stage.sees(stage.over, of=rescuer, within=_END_SECONDS)
            await rescuer.kill()
        return True

    def _start(self, settings: Settings, kind: type[Scenario], *tools: str, ends: Collection[int] = ()) -> Child:
        arguments = [part for module in (*TOOLS, *tools) for part in ("--tools", module)]
        arguments += ["--concurrency", str(kind.concurrency)]
        return self._nest.bear(settings, "worker", *arguments, program=kind.program, ends=ends)

    async def _until_it_ended(self, scenario: Scenario, stage: Stage) -> None:
        worker = stage.worker
        await scenario.act(stage)
        worker.signal(signal.SIGTERM)
        await asyncio.wait({worker.ended}, timeout=_LEAVE_SECONDS)
        await worker.kill()
