"""Processes that end at a point, and those that come after them: forked, so that many cost little."""

from __future__ import annotations

import asyncio
import signal
from itertools import count
from typing import TYPE_CHECKING, Final, Self

from tests.points.hooks import place_of
from tests.support.forks import Forks
from tests.support.variables import not_ours, saying

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from tests.points.code import Code
    from tests.support.forks import Process
    from toolspan.settings import Settings

KILLED: Final = -signal.SIGKILL
WORKER: Final = "toolspan.__main__:main"


class Child:
    """One process: how often it was at each point, and how it ended."""

    def __init__(self, process: Process, log: Path, visits: Path) -> None:
        self.log = log
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit code."""
        self._visits = visits
        self._process = process
        asyncio.get_running_loop().add_reader(process, self._has_ended)

    def _has_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process)
        self.ended.set_result(self._process.wait())

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        if not self.ended.done():
            self._process.send_signal(number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended

    def visited(self) -> list[tuple[int, int]]:
        """Give every place that was visited, and how often."""
        return [(place, times) for place, times in enumerate(self._visits.read_bytes()) if times]


class Nest:
    """Starts them, and leaves none behind."""

    def __init__(self, folder: Path, code: Code) -> None:
        self._folder = folder
        self._part = code.part
        self._places = place_of(len(code.points), held=False)
        self._numbers = count()
        self._alive: set[Child] = set()

    async def __aenter__(self) -> Self:
        self._forks = Forks(["-m", "tests.points.nursery", self._part], not_ours())
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in list(self._alive):
            await child.kill()
        await asyncio.to_thread(self._forks.end)

    def bear(
        self,
        settings: Settings,
        *arguments: str,
        program: str = WORKER,
        ends: Collection[int] = (),
        variables: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a process that works with *settings*, and ends at the first of the places *ends* to which it gets."""
        number = next(self._numbers)
        log, visits = self._folder / f"{number}.log", self._folder / f"{number}.visits"
        visits.write_bytes(bytes(self._places))
        with log.open("wb") as out:
            process = self._forks.start(
                arguments,
                environment={**not_ours(), **saying(settings), **(variables or {})},
                output=[out.fileno()],
                program=program,
                visits=str(visits),
                ends=list(ends),
            )
        child = Child(process, log, visits)
        self._alive.add(child)
        child.ended.add_done_callback(lambda _: self._alive.discard(child))
        return child
