"""Replies to calls that nobody waits for on an open connection: kept for whoever asks later, but not for ever."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from toolspan.model import Reply

KEPT: Final = 10_000


class Detached:
    """Remembers the last `KEPT` detached calls of this process, each for *seconds*."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: OrderedDict[str, tuple[float, str, asyncio.Future[Reply]]] = OrderedDict()

    def add(self, call_id: str, entry_id: str, reply: asyncio.Future[Reply]) -> list[str]:
        """Remember a call, and name those that are forgotten for it."""
        now = time.monotonic()
        self._calls[call_id] = (now + self._seconds, entry_id, reply)
        forgotten = []
        while self._calls:
            oldest, (until, _, _) = next(iter(self._calls.items()))
            if len(self._calls) <= KEPT and until > now:
                break
            del self._calls[oldest]
            forgotten.append(oldest)
        return forgotten

    def find(self, call_id: str) -> tuple[str, asyncio.Future[Reply]] | None:
        """Give the entry id of a call that we remember, and what is or will be its reply."""
        known = self._calls.get(call_id)
        return known[1:] if known and known[0] > time.monotonic() else None
