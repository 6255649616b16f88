"""Pausing tools, and asking workers to go."""

from __future__ import annotations

import asyncio
import re
import time
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from toolspan.errors import NotDoneError
from toolspan.store import ControlStore, Directory, EntryReader, Inspector
from toolspan.store.names import printable

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.model import Order
    from toolspan.store import Connection
    from toolspan.telemetry.probe import Probe

_TOOL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_POLL_SECONDS: Final = 0.1


class Operator:
    """What one operator asks of the workers of a stream; every method raises StoreError.

    *who* says who asks, for the audit stream.
    """

    def __init__(self, connection: Connection, keys: Keys, probe: Probe, *, who: str) -> None:
        self._store = ControlStore(connection, keys)
        self._inspector = Inspector(connection, keys)
        self._directory = Directory(connection, keys)
        self._entries = EntryReader(connection, keys)
        self._probe = probe
        self._who = who

    async def served(self, tool: str) -> int:
        """Tell how many live workers serve *tool*."""
        return sum(worker.live and tool in worker.tools for worker in await self._inspector.workers())

    async def stream_of(self, tool: str) -> str | None:
        """Name the stream to which calls of *tool* go, our own before others; None: no live worker serves it."""
        return (await self._directory.routes()).get(tool)

    async def pause(self, tool: str, *, why: str) -> Order | None:
        """Have the calls of *tool* wait; gives who had paused it before, where somebody had.

        Raises:
            NotDoneError: if no tool can have this name.
        """
        if not _TOOL.fullmatch(tool):
            message = f"no tool can be called {tool}: `toolspan tools` lists those that are served"
            raise NotDoneError(message)
        known = await self._store.pause(tool, who=self._who, why=why)
        if known is None:
            self._probe.paused(tool, who=self._who, why=why)
        return known

    async def resume(self, tool: str, *, why: str) -> int:
        """Have the calls of *tool* run again, and tell how many parked ones became due with that.

        Raises:
            NotDoneError: if it was not paused.
        """
        if await self._store.resume(tool, who=self._who, why=why) is None:
            paused = ", ".join(sorted((await self._store.read()).paused)) or "nothing"
            message = f"{tool} is not paused; paused now: {paused}"
            raise NotDoneError(message)
        hastened = await self._store.hasten(tool)
        self._probe.resumed(tool, who=self._who, why=why, hastened=hastened)
        return hastened

    async def drain(self, consumer: str, *, why: str) -> bool:
        """Ask *consumer* to finish what it holds and go; False: somebody had asked it before.

        Raises:
            NotDoneError: if there is no such worker, or if it cannot hear us.
        """
        asked = await self._store.drain(consumer, who=self._who, why=why)
        if asked is None:
            raise NotDoneError(await self._unknown(consumer))
        worker = next((one for one in await self._inspector.workers() if one.consumer == printable(consumer)), None)
        if worker is not None and not worker.live:
            message = (
                f"{consumer} was not heard of for {asked.silent_ms / 1000:.0f} s: it goes if it ever comes back; "
                "others claim what it holds"
            )
            raise NotDoneError(message)
        if asked.anew:
            self._probe.asked_to_drain(consumer, who=self._who, why=why)
        return asked.anew

    async def gone(self, consumer: str, *, within: float) -> None:
        """Wait until *consumer* has left.

        Raises:
            NotDoneError: if it has not *within* so many seconds.
        """
        deadline = time.monotonic() + within
        while await self._store.silent_ms(consumer) is not None:
            if time.monotonic() > deadline:
                held = (await self._entries.holders()).get(consumer, 0)
                message = f"{consumer} has not left within {within:g} s, and holds {held} calls: it goes on to drain"
                raise NotDoneError(message)
            await asyncio.sleep(_POLL_SECONDS)

    async def _unknown(self, consumer: str) -> str:
        names = [one.consumer for one in await self._inspector.workers()]
        near = get_close_matches(consumer, names, 1)
        meant = f"did you mean {near[0]}?" if near else "`toolspan consumers` lists them"
        return f"there is no worker {consumer}: {meant}"
