"""Worker processes that end at a point, and those that come after them: forked, so that many cost little."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from tests.points.hooks import place_of
from tests.support.variables import not_ours, saying
from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from toolspan.settings import Settings

KILLED: Final = -signal.SIGKILL
WORKER: Final = "toolspan.__main__:main"


class Child:
    """One process: how often it was at each point, and how it ended."""

    def __init__(self, folder: Path, number: int, places: int, send: Callable[..., None]) -> None:
        self.log = folder / f"{number}.log"
        self.log.touch()
        self.visits = folder / f"{number}.visits"
        self.visits.write_bytes(bytes(places))
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Its exit code."""
        self._number = number
        self._send = send

    def signal(self, number: int) -> None:
        """Send it a signal, if it has not ended."""
        self._send(number=self._number, signal=number)

    async def kill(self) -> None:
        self.signal(signal.SIGKILL)
        await self.ended

    def visited(self) -> list[tuple[int, int]]:
        """Give every place that was visited, and how often."""
        return [(place, times) for place, times in enumerate(self.visits.read_bytes()) if times]


class Nest:
    """Starts them, and leaves none behind."""

    def __init__(self, folder: Path, points: int) -> None:
        self._folder = folder
        self._places = place_of(points, held=False)
        self._numbers = count()
        self._children: dict[int, Child] = {}

    async def __aenter__(self) -> Self:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
                [sys.executable, "-m", "tests.points.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=not_ours(),
                preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._hearing = asyncio.create_task(self._hear(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        for child in list(self._children.values()):
            await child.kill()
        self._hearing.cancel()
        self._writer.close()
        await asyncio.to_thread(self._process.wait)

    def bear(
        self,
        settings: Settings,
        *arguments: str,
        program: str = WORKER,
        ends: Collection[int] = (),
        **variables: Any,
    ) -> Child:
        """Start a process that works with *settings*, and ends at the first of the places *ends* to which it gets."""
        number = next(self._numbers)
        child = self._children[number] = Child(self._folder, number, self._places, self._send)
        self._send(
            number=number,
            program=program,
            arguments=arguments,
            variables={**saying(settings), **{f"TOOLSPAN_{k.upper()}": str(v) for k, v in variables.items()}},
            log=str(child.log),
            visits=str(child.visits),
            ends=list(ends),
        )
        return child

    def _send(self, **wanted: Any) -> None:
        self._writer.write(f"{json.dumps(wanted)}\n".encode())

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        async for line in reader:
            number, code = json.loads(line)
            self._children.pop(number).ended.set_result(code)
        assert False, "the nursery has ended"  # noqa: B011, PT015
