"""Plays a scenario in which a gateway dies: its callers ask another one, and every promise to them is looked at."""

from __future__ import annotations

import asyncio
import json
import signal
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import httpx

from tests.points.callers import ASKING, IMPATIENT, Asking, Caller, OwnProgram
from tests.points.nest import KILLED
from tests.points.promises import leaks
from tests.points.stage import Stage
from tests.points.theatre import TOOLS, Played
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tests.points.callers import Asked
    from tests.points.code import Code
    from tests.points.nest import Child, Nest
    from toolspan.store import Connection
    from toolspan.testing import EmbeddedServer

_LEAVE_SECONDS: Final = 10.0
_numbers = count()


class Front:
    """Plays on one server and one plane: its worker, and the gateway that callers go to after a death, are shared."""

    kinds: ClassVar = ASKING
    # Few, for they wait for little: more would only be in the way of what runs beside.
    at_once: ClassVar = 4

    def __init__(self, server: EmbeddedServer, connection: Connection, nest: Nest, code: Code, folder: Path) -> None:
        self._server = server
        self._connection = connection
        self._nest = nest
        self._code = code
        self._folder = folder
        self._without_key: list[tuple[str, Stage, Asked]] = []
        # Long enough that the worker loses no call, however busy the machine is: each is to be run once.
        self._settings = Settings(redis_url=server.url, prefix="front", lease_ms=30_000, reap_after_ms=60_000)

    async def __aenter__(self) -> Self:
        # To make one for each would cost more than all the rest.
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
        arguments = [part for module in TOOLS for part in ("--tools", module)]
        self._worker = self._nest.bear(self._settings, "worker", *arguments, "--concurrency", "200")
        self._gateway = self._nest.bear(self._settings, program=IMPATIENT)
        await eventually(lambda: _said(self._worker, "worker.started"), because="the worker has joined", within=60)
        await eventually(lambda: _said(self._gateway, "gateway.started"), because="the gateway listens", within=60)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()
        await self._gateway.kill()
        await self._worker.kill()

    async def play(self, kind: type[Asking], ends: Collection[int] = ()) -> Played:
        """Let the gateway die at the first of the places *ends*, or else drain in the end."""
        number = next(_numbers)
        stage = Stage(
            self._settings, self._connection.commands, self._connection, self._folder / f"front{number}", self._code
        )
        scenario, caller = kind(), Caller(stage, self._http, _url(self._gateway), number)
        async with AsyncExitStack() as closing:
            mortal = self._settings.model_copy(update=dict(kind.settings))
            if kind.proxied:
                scenario.proxy = await closing.enter_async_context(Proxy(self._server.port))
                mortal = mortal.model_copy(update={"redis_url": scenario.proxy.url})
            variables = {**kind.variables, **(scenario.calls(caller) if isinstance(scenario, OwnProgram) else {})}
            stage.workers = [self._nest.bear(mortal, program=kind.program, ends=ends, variables=variables)]
            if kind.program == IMPATIENT and await stage.sees(lambda: _said(stage.worker, "gateway.started")):
                caller.url = _url(stage.worker)
            problems = []
            try:
                await scenario.act(stage, caller)
            except httpx.TransportError as exc:
                problems.append(f"the gateway that lives did not answer: {exc!r}")
            stage.worker.signal(signal.SIGTERM)
            await asyncio.wait({stage.worker.ended}, timeout=_LEAVE_SECONDS)
            await stage.worker.kill()
            await scenario.afterwards(stage)
        code = stage.worker.ended.result()
        if code not in {KILLED, 0}:
            problems.append(f"it ended with {code}")
        for asked in caller.asked:
            if asked.keyed:
                problems += [f"{asked.file}: {problem}" for problem in await _broken(stage, caller, asked)]
            else:
                self._without_key.append((f"{kind.__name__}, {sorted(ends)}, {asked.file}", stage, asked))
        lines = f"--- {stage.worker.log}\n{stage.worker.log.read_text()}" if problems else ""
        return Played(stage.worker.visited(), code == KILLED, problems, lines)

    async def left(self) -> list[str]:
        """Say what is left behind once all is played: calls, or what nothing ever ends."""
        stage = Stage(self._settings, self._connection.commands, self._connection, self._folder / "left", self._code)
        try:
            await eventually(stage.over, because="every call has its end", within=60)
        except AssertionError as exc:
            return [str(exc), f"left: {await stage.plane.left()}, pending: {await stage.plane.pending()}"]
        problems = [f"a dead letter: {letter}" for letter in await stage.plane.dead_letters()]
        for where, its_stage, asked in self._without_key:
            starts = its_stage.starts(asked.file)
            if starts > 1 or (asked.taken_as and not starts):
                problems.append(f"{where}: it was run {starts} times, and accepted as {asked.taken_as}")
        return [*problems, *[problem async for problem in leaks(stage)]]


async def _broken(stage: Stage, caller: Caller, asked: Asked) -> list[str]:
    """Say what is not as it was promised to who asked with a key: he asks again, and that cannot run it twice."""
    try:
        again = [(await caller.ask_the_other(asked)).json() for _ in range(2)]
    except httpx.TransportError as exc:
        return [f"asked again, it was not answered: {exc!r}"]
    ids = {told["id"] for told in again} | ({asked.taken_as} - {None})
    problems = []
    if any(told["status"] != "ok" for told in again):
        problems.append(f"asked again, it was answered with {again}")
    if len(ids) > 1:
        problems.append(f"it became several calls: {ids}")
    if (starts := stage.starts(asked.file)) != 1:
        problems.append(f"it was run {starts} times")
    return problems


def _said(child: Child, event: str) -> dict[str, Any] | None:
    """Give the line of *event*, if it has come."""
    lines = [line for line in child.log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return next((told for line in lines if (told := json.loads(line))["event"] == event), None)


def _url(gateway: Child) -> str:
    started = _said(gateway, "gateway.started")
    assert started
    return f"http://127.0.0.1:{started['port']}"
