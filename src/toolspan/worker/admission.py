"""Lets calls of tools with limits for the whole fleet begin, and keeps those that wait from taking up all room."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError
from toolspan.worker.line import Line, NotAdmittedError, Waiting

if TYPE_CHECKING:
    from toolspan.store.limits import LimitStore
    from toolspan.telemetry.probe import Probe
    from toolspan.tools.registry import Tool
    from toolspan.worker.inflight import Work

_POLL_SECONDS: Final = 0.1
"""How soon we look again whether another worker gave a slot back: it does not tell us."""

_TURN_SECONDS: Final = 2.0
"""For so long a line takes each slot that its own runs give back; then others that wait have a chance to."""

_YIELD_SECONDS: Final = 1.5 * _POLL_SECONDS
_AT_ONCE: Final = 1_000
_RECALLS: Final = 10
_RECALL_SECONDS: Final = 0.5
"""How soon a line that has got empty calls back others, where those that it called back before do not come."""

_SMALL: Final = 4
_SMALL_PATIENCE: Final = 0.2


class Admission:
    """The lines of all tools. *concurrency* is how many calls the worker holds, *patience* how long one waits here.

    A tool may fill a quarter of the room with calls that wait, and all tools together a half of it; one that nothing
    waits of has a place up to three quarters. Whatever comes beyond that is turned away at once, and called back when
    its line gets short: so calls of other tools always find room.
    """

    def __init__(self, store: LimitStore, probe: Probe, *, concurrency: int, patience: float) -> None:
        self.recalled = asyncio.Event()
        """Set when calls that were turned away have been made due."""
        self._store = store
        self._probe = probe
        self._most_of_a_tool = max(1, concurrency // 4)
        self._most = max(1, concurrency // 2)
        self._most_with_a_newcomer = max(1, concurrency * 3 // 4)
        # Where there are only a few places, one that only waits costs too much.
        self._patience = patience if concurrency >= _SMALL else min(patience, _SMALL_PATIENCE)
        self._lines: dict[str, Line] = {}
        self._wake = asyncio.Event()
        self._closed = False

    async def enter(self, work: Work, tool: Tool, *, seconds: float) -> None:
        """Wait for the turn of a call, at most *seconds*; its slot is in *work* then, for `leave`.

        Raises:
            NotAdmittedError: if it may not begin now, and has to be turned away.
        """
        line = self._line(tool)
        if self._closed or not self._has_place(line):
            raise NotAdmittedError
        if not line:
            self._ask(line)
            line.yield_at = time.monotonic() + _TURN_SECONDS
        waiting = line.join(work.entry_id)
        admitted = False
        try:
            await asyncio.wait({waiting.turn}, timeout=min(seconds, self._patience))
            admitted = waiting.turn.done() and waiting.turn.result()
        finally:
            line.leave(waiting, admitted=admitted)
            if not admitted:
                # Its turn may have come while we were cancelled, or Redis may have admitted it without our hearing so.
                waiting.turn.cancel()
                self._end(line, work.entry_id)
        if not admitted:
            raise NotAdmittedError
        if tool.max_concurrency is not None:
            work.slot = tool.name

    def leave(self, work: Work, tool: Tool) -> None:
        """Give the slot back that *work* was admitted with: its run is over, or is not to be."""
        work.slot = ""
        self._end(self._line(tool), work.entry_id)

    def turned_away(self, work: Work, tool: Tool) -> int:
        """Give the milliseconds until a call that could not begin shall be tried again, by whoever has room then."""
        return 0 if self._closed else self._line(tool).turned_away(work.entry_id)

    def close(self) -> None:
        """Let nobody wait any more: the worker drains, and others may begin at once what waits here."""
        self._closed = True
        for line in self._lines.values():
            for waiting in line.first(len(line)):
                waiting.turn.set_result(False)

    def waiting(self) -> dict[str, int]:
        """Tell how many calls of each tool wait, of the tools that ever did."""
        return {name: len(line) for name, line in list(self._lines.items())}

    async def run(self) -> None:
        """Ask Redis whenever there is something to ask, until cancelled."""
        while True:
            self._wake.clear()
            for line in list(self._lines.values()):
                if line.ask_at <= time.monotonic():
                    await self._exchange(line)
            soonest = min((line.ask_at for line in self._lines.values()), default=float("inf"))
            with suppress(TimeoutError):
                async with asyncio.timeout(None if soonest == float("inf") else soonest - time.monotonic()):
                    await self._wake.wait()

    def _line(self, tool: Tool) -> Line:
        line = self._lines.get(tool.name)
        if line is None:
            line = self._lines[tool.name] = Line(tool)
        return line

    def _has_place(self, line: Line) -> bool:
        all_waiting = sum(map(len, self._lines.values()))
        if not line:
            return all_waiting < self._most_with_a_newcomer
        return len(line) < self._most_of_a_tool and all_waiting < self._most

    def _end(self, line: Line, entry_id: str) -> None:
        if line.tool.max_concurrency is not None:
            line.ended.append(entry_id)
            self._ask(line)

    def _ask(self, line: Line) -> None:
        line.ask_at = 0.0
        self._wake.set()

    async def _exchange(self, line: Line) -> None:
        """Give back what has ended, and let begin who may; whoever still waits then is asked for again later."""
        ended, line.ended = line.ended, []
        asked = self._asking(line)
        if not ended and not asked:
            await self._idle(line)
            return
        tool = line.tool
        line.ask_at = float("inf")
        try:
            admitted = await self._store.admit(
                tool.name,
                max_concurrency=tool.max_concurrency,
                rate=tool.rate,
                ended=ended,
                waiting=[one.entry_id for one in asked],
            )
        except StoreError as exc:
            self._probe.outage("admit", exc)
            line.ended = ended + line.ended
            self._ask_again(line, None)
            return
        self._probe.recovered("admit")
        for one in asked[: admitted.count]:
            # Whoever has left meanwhile has already said so.
            if not one.turn.done():
                one.turn.set_result(True)
        self._ask_again(line, admitted.again_ms)
        if admitted.count:
            await self._recall(line)

    async def _idle(self, line: Line) -> None:
        if line:
            line.ask_at = line.yields_until
            return
        line.ask_at = time.monotonic() + _RECALL_SECONDS if line.any_away else float("inf")
        await self._recall(line)

    def _asking(self, line: Line) -> list[Waiting]:
        now = time.monotonic()
        if now < line.yields_until:
            return []
        if now >= line.yield_at:
            line.yield_at = now + _TURN_SECONDS
            line.yields_until = now + _YIELD_SECONDS
            return []
        return line.first(_AT_ONCE)

    def _ask_again(self, line: Line, again_ms: int | None) -> None:
        # What was said to us while we asked comes first.
        if line.ask_at == 0.0:
            return
        if not (line.ended or line.first(1)):
            # Nobody is here to ask for, but somebody may have been turned away.
            line.ask_at = time.monotonic() + _RECALL_SECONDS if line.any_away else float("inf")
            return
        seconds = _POLL_SECONDS * random.uniform(0.5, 1) if again_ms is None else again_ms / 1000  # noqa: S311
        line.ask_at = max(time.monotonic() + seconds, line.yields_until)

    async def _recall(self, line: Line) -> None:
        """Call back some that were turned away, once there is a place for them again; others may have taken them."""
        for _ in range(_RECALLS):
            places = self._most_of_a_tool - len(line.first(self._most_of_a_tool))
            ids = line.recalled(places) if 2 * places >= self._most_of_a_tool else []
            if not ids:
                return
            try:
                hastened = await self._store.hasten(ids)
            except StoreError as exc:
                # They come back by themselves, only later.
                self._probe.outage("recall", exc)
                return
            self._probe.recovered("recall")
            if hastened:
                self.recalled.set()
                return
