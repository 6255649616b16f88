"""Has the heartbeat look at once when operators ask for something."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolspan.store.announcements import Announcements
    from toolspan.telemetry.probe import Probe

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 30.0


class Listener:
    """Listens for news. Without it, what is asked for is heard with the next heartbeat."""

    def __init__(self, announcements: Announcements, probe: Probe, *, look: Callable[[], None]) -> None:
        self._announcements = announcements
        self._probe = probe
        self._look = look

    async def run(self) -> None:
        """Listen until cancelled."""
        wait = _FIRST_WAIT
        try:
            while True:
                try:
                    if await self._announcements.news():
                        self._look()
                    self._probe.recovered("listen")
                    wait = _FIRST_WAIT
                except StoreError as exc:
                    self._probe.outage("listen", exc)
                    await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                    wait = min(wait * 2, _LONGEST_WAIT)
        finally:
            await self._announcements.aclose()
