"""Has a worker die at every point there is, each in a process of its own, and collects what was broken by that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from tests.points.code import Code
from tests.points.hooks import place_of
from tests.points.nest import Nest
from tests.points.scenarios import SCENARIOS
from tests.points.theatre import Theatre
from toolspan.store import Connection
from toolspan.store.scripts import compose

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Collection, Iterable
    from pathlib import Path

    from tests.points.scenarios import Scenario
    from tests.points.theatre import Played
    from toolspan.testing import EmbeddedServer

AT_ONCE: Final = 10
_TRIES: Final = 4
"""How often, at most, workers are sent to see where they get."""


@dataclass(frozen=True, slots=True)
class Death:
    """Where the worker dies, and while what goes on; with or without calls in hand, or however it gets there first."""

    point: int
    kind: type[Scenario]
    held: bool | None = None

    @property
    def ends(self) -> list[int]:
        """The places that are meant."""
        return [place_of(self.point, held=held) for held in (False, True) if self.held in {None, held}]


@dataclass(slots=True)
class Scouted:
    """Where the worker was in each scenario: for each point in which, with calls in hand or without, and how often."""

    found: dict[int, list[tuple[type[Scenario], bool, int]]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def all(self) -> list[Death]:
        """Give every death that can be had."""
        return [Death(point, kind, held) for point in sorted(self.found) for kind, held, _ in self.found[point]]

    def one_of(self, point: int, chance: random.Random) -> Death:
        """Choose one of those of a point: one that can be had often, rather than one that came by chance."""
        found = self.found[point]
        [(kind, held, _)] = chance.choices(found, [times for _, _, times in found])
        return Death(point, kind, held)


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
        # So that only those are seen to load them who say so.
        for script in files("toolspan.store").joinpath("lua").iterdir():
            if script.name.endswith(".lua"):
                await connection.commands.script_load(compose(script.name.removesuffix(".lua")))
        try:
            async with Nest(folder, len(code.points)) as nest:
                yield cls(Theatre(server, connection, nest, code, folder), code)
        finally:
            await connection.aclose()

    async def scout(self) -> Scouted:
        """Let nobody die, and see where the worker gets in each scenario: what tasks do is not all ordered."""
        scouted = Scouted()
        for _ in range(_TRIES):
            for kind, played in zip(SCENARIOS, await self._all((kind, ()) for kind in SCENARIOS), strict=True):
                scouted.problems += _told(f"{kind.__name__}, nobody died", played)
                for place, times in played.visited:
                    point, held = divmod(place, 2)
                    scouted.found.setdefault(point, []).append((kind, bool(held), times))
            if not self.never(scouted):
                break
        return scouted

    def never(self, scouted: Scouted) -> list[str]:
        """Name the points at which no worker was."""
        here = ((n, point) for n, point in enumerate(self.code.points) if point.elsewhere is None)
        return [f"{point}: never visited" for number, point in here if number not in scouted.found]

    def by_mistake(self, scouted: Scouted) -> list[str]:
        """Name those of which it is said that no worker gets there."""
        points = [self.code.points[number] for number in sorted(scouted.found)]
        return [f"{point}: visited" for point in points if point.elsewhere is not None]

    def named(self, death: Death) -> str:
        """Say where it is, and while what goes on."""
        return f"{self.code.points[death.point]}, in {death.kind.__name__}"

    async def visit(self, deaths: Iterable[Death], scouted: Scouted, chance: random.Random) -> list[str]:
        """Have a worker die each of these *deaths*, and say what was broken by it, or that one could not be had."""
        told = await asyncio.gather(*(self._have(death, scouted, chance) for death in deaths))
        return [problem for problems in told for problem in problems]

    async def _have(self, death: Death, scouted: Scouted, chance: random.Random) -> list[str]:
        others = list({kind for kind, _, _ in scouted.found[death.point]})
        chance.shuffle(others)
        for one in (death, *(Death(death.point, kind) for kind in (death.kind, *others, *others))):
            [played] = await self._all([(one.kind, one.ends)])
            problems = _told(self.named(one), played)
            if played.died or problems:
                return problems
        return [f"{self.code.points[death.point]}: a worker was there, and does not come again"]

    async def _all(self, wanted: Iterable[tuple[type[Scenario], Collection[int]]]) -> list[Played]:
        async def one(kind: type[Scenario], ends: Collection[int]) -> Played:
            async with self._room:
                self.played += 1
                return await self._theatre.play(kind, ends)

        return await asyncio.gather(*(one(kind, ends) for kind, ends in wanted))


def _told(where: str, played: Played) -> list[str]:
    return [f"{where}: {problem}\n{played.lines}" for problem in played.problems]
