"""Has a process die at every point of one part, each time another one, and collects what was broken by that."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tests.points.code import Code
from tests.points.desk import Desk
from tests.points.front import Front
from tests.points.hooks import place_of
from tests.points.nest import Nest
from tests.points.theatre import Theatre
from tests.support.scripts import all_scripts
from toolspan.store import Connection

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Collection, Iterable
    from pathlib import Path

    from tests.points.theatre import Played
    from toolspan.testing import EmbeddedServer

Kind: TypeAlias = type[Any]
"""What goes on while a process dies: a scenario of the part's theatre."""

THEATRES: Final[dict[str, type[Theatre | Front | Desk]]] = {"worker": Theatre, "gateway": Front, "replay": Desk}
_TRIES: Final = 4
"""How often, at most, they are sent to see where they get."""


@dataclass(frozen=True, slots=True)
class Death:
    """Where one dies, and while what goes on; with or without calls in hand, or however it gets there first."""

    point: int
    kind: Kind
    held: bool | None = None

    @property
    def ends(self) -> list[int]:
        """The places that are meant."""
        return [place_of(self.point, held=held) for held in (False, True) if self.held in {None, held}]


@dataclass(slots=True)
class Scouted:
    """Where they were in each scenario: for each point in which, with calls in hand or without, and how often."""

    found: dict[int, list[tuple[Kind, bool, int]]] = field(default_factory=dict)
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

    def __init__(self, theatre: Theatre | Front | Desk, code: Code) -> None:
        self.code = code
        self.played = 0
        self._theatre = theatre
        self._room = asyncio.Semaphore(theatre.at_once)

    @classmethod
    @asynccontextmanager
    async def on(cls, server: EmbeddedServer, folder: Path, part: str) -> AsyncIterator[Tour]:
        """Have all that it takes while the block lasts."""
        code = Code(part)
        connection = Connection.to(server.url)
        # So that only those are seen to load them who say so.
        for script in all_scripts():
            await connection.commands.script_load(script)
        try:
            async with (
                Nest(folder, code) as nest,
                THEATRES[part](server, connection, nest, code, folder) as theatre,
            ):
                yield cls(theatre, code)
        finally:
            await connection.aclose()

    async def scout(self) -> Scouted:
        """Let nobody die, and see where each scenario gets: what tasks do is not all ordered."""
        scouted = Scouted()
        for _ in range(_TRIES):
            kinds = self._theatre.kinds
            for kind, played in zip(kinds, await self._all((kind, ()) for kind in kinds), strict=True):
                scouted.problems += _told(f"{kind.__name__}, nobody died", played)
                for place, times in played.visited:
                    point, held = divmod(place, 2)
                    scouted.found.setdefault(point, []).append((kind, bool(held), times))
            if not self.never(scouted):
                break
        return scouted

    def never(self, scouted: Scouted) -> list[str]:
        """Name the points at which nobody was."""
        here = ((n, point) for n, point in enumerate(self.code.points) if self.code.elsewhere(point) is None)
        return [f"{point}: never visited" for number, point in here if number not in scouted.found]

    def by_mistake(self, scouted: Scouted) -> list[str]:
        """Name those of which it is said that nobody gets there."""
        points = [self.code.points[number] for number in sorted(scouted.found)]
        return [f"{point}: visited" for point in points if self.code.elsewhere(point) is not None]

    def named(self, death: Death) -> str:
        """Say where it is, and while what goes on."""
        return f"{self.code.points[death.point]}, in {death.kind.__name__}"

    async def left(self) -> list[str]:
        """Say what is left behind once all is played."""
        return await self._theatre.left()

    async def visit(self, deaths: Iterable[Death], scouted: Scouted, chance: random.Random) -> list[str]:
        """Have one die each of these *deaths*, and say what was broken by it, or that one could not be had."""
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
        return [f"{self.code.points[death.point]}: one was there, and does not come again"]

    async def _all(self, wanted: Iterable[tuple[Kind, Collection[int]]]) -> list[Played]:
        async def one(kind: Kind, ends: Collection[int]) -> Played:
            async with self._room:
                self.played += 1
                return await self._theatre.play(kind, ends)

        return await asyncio.gather(*(one(kind, ends) for kind, ends in wanted))


def _told(where: str, played: Played) -> list[str]:
    return [f"{where}: {problem}\n{played.lines}" for problem in played.problems]
