"""Plays a scenario in which an operator's replay dies: it is typed again, and nothing is replayed twice or left."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from tests.cli.letters import bury
from tests.points.nest import KILLED
from tests.points.promises import leaks
from tests.points.replays import REPLAYING
from tests.points.stage import Stage
from tests.points.theatre import TOOLS, Played
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from toolspan.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from tests.points.code import Code
    from tests.points.nest import Child, Nest
    from tests.points.replays import Replaying
    from toolspan.store import Connection
    from toolspan.testing import EmbeddedServer

_LETTERS: Final = 4
_SECONDS: Final = 30.0
_numbers = count()


class Desk:
    """Plays on one server, each scenario on a plane of its own."""

    kinds: ClassVar = REPLAYING
    # Few, for they wait for little: more would only be in the way of what runs beside.
    at_once: ClassVar = 4

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

    async def play(self, kind: type[Replaying], ends: Collection[int] = ()) -> Played:
        """Let the command die at the first of the places *ends*, and type it once more, as an operator would."""
        prefix = f"desk{next(_numbers)}"
        # Long enough that a worker loses no call, however busy the machine is: each is to be run once.
        settings = Settings(redis_url=self._server.url, prefix=prefix, lease_ms=30_000, reap_after_ms=60_000)
        stage = Stage(settings, self._connection.commands, self._connection, self._folder / prefix, self._code)
        letters = [await self._bury(stage, number) for number in range(_LETTERS)]
        # Nothing in the world makes this one a call again.
        refused = await bury(stage.plane, "no", "call", reason="malformed", id="7-7")
        scenario = kind(letters)
        command = ["dlq", "replay", *scenario.arguments(), *kind.options]
        worker = self._worker(settings) if kind.worker else None
        async with AsyncExitStack() as closing:
            theirs = settings
            if kind.proxied:
                scenario.proxy = await closing.enter_async_context(Proxy(self._server.port))
                theirs = settings.model_copy(update={"redis_url": scenario.proxy.url})
            mortal = self._nest.bear(theirs, *command, ends=ends)
            stage.workers = [mortal]
            await scenario.act(stage)
            await mortal.kill()
        again = self._nest.bear(settings, *(part for part in command if part != "--dry-run"))
        await asyncio.wait({again.ended}, timeout=_SECONDS)
        await again.kill()
        if worker:
            await eventually(stage.over, because="what was replayed has its end", within=_SECONDS)
            await worker.kill()
        problems = [
            f"it ended with {one.ended.result()}"
            for one, codes in ((mortal, {KILLED, 0, 1}), (again, {0, 1}))
            if one.ended.result() not in codes
        ]
        problems += await _broken(stage, letters, refused, ran=kind.worker)
        await stage.clear()
        logs = [one.log for one in (mortal, again)]
        lines = "\n".join(f"--- {log}\n{log.read_text()}" for log in logs) if problems else ""
        return Played(mortal.visited(), mortal.ended.result() == KILLED, problems, lines)

    async def _bury(self, stage: Stage, number: int) -> str:
        args = json.dumps({"path": str(stage.file(f"{number}"))})
        fields = ("v", "1", "id", f"call {number}", "tool", "marked", "args", args, "reply_to", stage.plane.reply_to)
        return await bury(stage.plane, *fields, id=f"9-{number}")

    def _worker(self, settings: Settings) -> Child:
        return self._nest.bear(settings, "worker", *(part for module in TOOLS for part in ("--tools", module)))


async def _broken(stage: Stage, letters: list[str], refused: str, *, ran: bool) -> list[str]:
    """Say what is not as it should be once the command was typed again: each is replayed once, and none is left."""
    raw: Any = await stage.redis.execute_command("XRANGE", stage.plane.keys.audit, "-", "+")
    notes = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in raw]
    replayed = sorted(note[b"dead_letter"].decode() for note in notes if note[b"action"] == b"replay")
    entries: Any = await stage.redis.execute_command("XRANGE", stage.plane.keys.calls, "-", "+")
    waiting = [dict(zip(fields[::2], fields[1::2], strict=True)) for _, fields in entries]
    left = [letter.id for letter in await stage.plane.dead_letters()]
    problems = []
    if replayed != sorted(letters):
        problems.append(f"of {letters} it has replayed {replayed}")
    if left != [refused]:
        problems.append(f"left among the dead letters: {left}")
    if not ran and sorted(fields[b"replay_of"].decode() for fields in waiting) != sorted(letters):
        problems.append(f"on the stream: {waiting}")
    starts = [stage.starts(f"{number}") for number in range(len(letters))]
    if ran and set(starts) != {1}:
        problems.append(f"they were run {starts} times")
    return problems + [problem async for problem in leaks(stage)]
