"""Replies to calls on which nobody waits: kept for whoever asks later, but not for ever."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from toolspan.model import Reply

KEPT: Final = 10_000


class Detached:
    """Remembers the last *kept* detached calls, each for *seconds*; tells *forget* of those it lets go."""

    def __init__(self, forget: Callable[[str], None], *, seconds: float, kept: int = KEPT) -> None:
        self._forget = forget
        self._seconds = seconds
        self._kept = kept
        self._calls: OrderedDict[str, tuple[float, str, asyncio.Future[Reply]]] = OrderedDict()

    def add(self, call_id: str, entry_id: str, reply: asyncio.Future[Reply]) -> None:
        """Remember a call."""
        self._calls[call_id] = (time.monotonic() + self._seconds, entry_id, reply)
        self._let_go()

    def find(self, call_id: str) -> tuple[str, asyncio.Future[Reply]] | None:
        """Give the entry id of a call that we remember, and what is or will be its reply."""
        self._let_go()
        known = self._calls.get(call_id)
        return known[1:] if known else None

    def _let_go(self) -> None:
        # All are kept equally long: the oldest is the first whose time is over.
        now = time.monotonic()
        while self._calls:
            oldest, (until, _, _) = next(iter(self._calls.items()))
            if len(self._calls) <= self._kept and until > now:
                break
            del self._calls[oldest]
            self._forget(oldest)
