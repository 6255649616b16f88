"""Has a worker die at every point there is, each in a process of its own, and collects what was broken by that."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.points.code import Code
from tests.points.nest import Nest
from tests.points.scenarios import SCENARIOS
from tests.points.theatre import Theatre
from toolspan.store import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from tests.points.scenarios import Scenario
    from tests.points.theatre import Played
    from toolspan.testing import EmbeddedServer

AT_ONCE: Final = 16
_TRIES: Final = 4
"""How often a worker is sent to a point at which it was, in one scenario or another: what tasks do is not all ordered."""


@dataclass(frozen=True, slots=True)
class Death:
    """At which visit of which place the worker dies, and while what goes on."""

    place: int
    times: int
    kind: type[Scenario]


@dataclass(slots=True)
class Scouted:
    """Where the worker was in each scenario, by place: those in which it was there, and how often."""

    found: dict[int, list[tuple[type[Scenario], int]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def unvisited(self, code: Code) -> list[str]:
        """Name the points at which it never was."""
        met = {place // 2 for place in self.found}
        return [str(point) for number, point in enumerate(code.points) if number not in met]


class Tour:
    """One server, and all that is played on it."""

    def __init__(self, theatre: Theatre, code: Code) -> None:
        self.code = code
        self.played = 0
        self._theatre = theatre
        self._room = asyncio.Semaphore(AT_ONCE)

    @classmethod
    @asynccontextmanager
    async def on(cls, server: EmbeddedServer, folder: Path) -> AsyncIterator[Tour]:
        """Have all that it takes while the block lasts."""
        code = Code()
        connection = Connection.to(server.url)
        try:
            async with Nest(folder, len(code.points)) as nest:
                yield cls(Theatre(server, connection, nest, code, folder), code)
        finally:
            await connection.aclose()

    async def scout(self) -> Scouted:
        """Let nobody die, and see where the worker gets in each scenario."""
        scouted = Scouted()
        for kind, played in zip(SCENARIOS, await self._all((kind, None) for kind in SCENARIOS), strict=True):
            scouted.problems += _told(f"{kind.__name__}, nobody died", played)
            for place, times in played.visited:
                scouted.found.setdefault(place, []).append((kind, times))
        return scouted

    async def visit(self, deaths: Iterable[Death], scouted: Scouted, chance: random.Random) -> list[str]:
        """Have a worker die each of these *deaths*, and say what was broken by it, or if one could not be had."""
        return [problem for problems in await asyncio.gather(*(
            self._have(death, scouted, chance) for death in deaths
        )) for problem in problems]  # fmt: skip

    async def _have(self, death: Death, scouted: Scouted, chance: random.Random) -> list[str]:
        problems = []
        for _ in range(_TRIES):
            [played] = await self._all([(death.kind, (death.place, death.times))])
            problems += _told(f"{death.kind.__name__}, {self.named(death)}", played)
            if played.died or problems:
                return problems
            death = Death(death.place, 1, chance.choice(scouted.found[death.place])[0])
        return [f"{self.named(death)}: a worker was there, and is not any more"]

    def named(self, death: Death) -> str:
        """Say where it is."""
        held = "with calls in hand" if death.place % 2 else "with nothing in hand"
        return f"{self.code.points[death.place // 2]} ({held}, visit {death.times})"

    async def _all(self, wanted: Iterable[tuple[type[Scenario], tuple[int, int] | None]]) -> list[Played]:
        async def one(kind: type[Scenario], end: tuple[int, int] | None) -> Played:
            async with self._room:
                self.played += 1
                return await self._theatre.play(kind, end)

        return await asyncio.gather(*(one(kind, end) for kind, end in wanted))


def _told(where: str, played: Played) -> list[str]:
    return [f"{where}: {problem}\n{played.lines}" for problem in played.problems]


def once_each(scouted: Scouted, chance: random.Random) -> list[Death]:
    """Choose one death for each place that was visited: the first visit, or sometimes a later one."""
    deaths = []
    for place, found in sorted(scouted.found.items()):
        kind, times = chance.choice(found)
        deaths.append(Death(place, chance.randint(1, min(times, 3)), kind))
    return deaths


def all_of(scouted: Scouted) -> list[Death]:
    """Choose every place in every scenario in which it was visited."""
    return [Death(place, 1, kind) for place, found in sorted(scouted.found.items()) for kind, _ in found]
