"""Which stream a call goes to: the one whose live workers serve its tool."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError
from toolspan.keys import Keys
from toolspan.periodic import ended

if TYPE_CHECKING:
    from toolspan.store import Directory
    from toolspan.telemetry.probe import Probe

_FRESH_SECONDS: Final = 1.0
"""How often the workers are looked at while there are calls; and how soon again for a tool that nobody serves."""

_STALE_SECONDS: Final = 3 * _FRESH_SECONDS
"""A look that is older is not relied on: there were no calls for a while."""

_LOOK_SECONDS: Final = 2.0


class Routes:
    """Remembers what the workers of all streams serve, so that a call costs no look of its own."""

    def __init__(self, directory: Directory, own: Keys, probe: Probe) -> None:
        self._directory = directory
        self._own = own
        self._probe = probe
        self._known: dict[str, str] = {}
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._used = asyncio.Event()
        self._refreshing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look again and again while there are calls."""
        self._refreshing = asyncio.create_task(self._refresh(), name="routes")

    async def stop(self) -> None:
        """End that."""
        if self._refreshing is not None:
            await ended(self._refreshing)
            self._refreshing = None

    async def stream_for(self, tool: str) -> str:
        """Give the key of the stream for calls of *tool*: our own, while no live worker serves it."""
        self._used.set()
        age = time.monotonic() - self._looked
        # Whoever calls before the start, or after the end, is refused for that: nothing need be opened for him.
        if self._refreshing is None:
            return self._own.calls
        if age > _STALE_SECONDS or (age > _FRESH_SECONDS and tool not in self._known):
            await self._look(older_than=_FRESH_SECONDS)
        stream = self._known.get(tool)
        return self._own.calls if stream is None else Keys(self._own.prefix, stream).calls

    async def _refresh(self) -> None:
        while True:
            await self._used.wait()
            self._used.clear()
            await asyncio.sleep(_FRESH_SECONDS)
            await self._look(older_than=_FRESH_SECONDS / 2)

    async def _look(self, *, older_than: float) -> None:
        async with self._looking:
            if time.monotonic() - self._looked <= older_than:
                return
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    self._known = await self._directory.routes()
                self._probe.recovered("routes")
            except (StoreError, TimeoutError) as exc:
                # What was known has to do; a call that cannot be sent says so itself.
                self._probe.outage("routes", exc)
            self._looked = time.monotonic()
