"""What the other live workers of the stream serve."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from toolspan.codec import VERSION
from toolspan.errors import StoreError

if TYPE_CHECKING:
    from toolspan.store.inspect import Inspector, WorkerInfo
    from toolspan.telemetry.probe import Probe

_FRESH_SECONDS: Final = 1.0
"""How long an answer is good for: callers of unknown tools must not make us read the registry per call."""


class Neighbours:
    """Looks at the registrations of the other workers, once in a while."""

    def __init__(self, inspector: Inspector, probe: Probe, *, me: str) -> None:
        self._inspector = inspector
        self._probe = probe
        self._me = me
        self._known: list[WorkerInfo] = []
        self._looked = float("-inf")
        self._looking = asyncio.Lock()

    async def serve(self, tool: str, *, version: int = VERSION) -> bool:
        """Whether another live worker serves *tool* and reads *version*; waits while Redis is away."""
        async with self._looking:
            while time.monotonic() - self._looked > _FRESH_SECONDS:
                await self._look()
        return any(tool in worker.tools and worker.protocol >= version for worker in self._known)

    async def _look(self) -> None:
        try:
            workers = await self._inspector.workers()
        except StoreError as exc:
            self._probe.outage("neighbours", exc)
            await asyncio.sleep(_FRESH_SECONDS)
        else:
            self._probe.recovered("neighbours")
            self._known = [worker for worker in workers if worker.live and worker.consumer != self._me]
            self._looked = time.monotonic()
