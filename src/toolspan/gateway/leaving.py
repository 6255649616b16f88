"""Tells workers of calls whose callers left: beside the callers, who do not wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError

if TYPE_CHECKING:
    from toolspan.store import CallerStore
    from toolspan.telemetry.probe import Probe

_FINISH_SECONDS: Final = 2.0


class Leaving:
    """The callers of one client that have left, and of whom workers have yet to be told."""

    def __init__(self, store: CallerStore, probe: Probe) -> None:
        self._store = store
        self._probe = probe
        self._telling: set[asyncio.Task[None]] = set()

    def leave(self, call_id: str, *, ttl_ms: int, entry_id: str = "") -> None:
        """Have a call given up, without waiting for it."""
        task = asyncio.get_running_loop().create_task(self._tell(call_id, ttl_ms, entry_id), name=f"leave {call_id}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def finish(self) -> None:
        """Wait until workers were told of all who left, if that is soon."""
        if self._telling:
            _, late = await asyncio.wait(set(self._telling), timeout=_FINISH_SECONDS)
            for task in late:
                task.cancel()

    async def _tell(self, call_id: str, ttl_ms: int, entry_id: str) -> None:
        try:
            await self._store.cancel(call_id, ttl_ms=ttl_ms, entry_id=entry_id)
        except StoreError as exc:
            # The call runs on to its deadline.
            self._probe.outage("cancel", exc)
        else:
            self._probe.recovered("cancel")
