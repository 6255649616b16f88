"""Replies to calls on which nobody waits: kept for whoever asks later, but not for ever."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from starlette.responses import Response

    from toolspan.model import Reply

KEPT: Final = 10_000
KEPT_BYTES: Final = 64 * 1024 * 1024


@dataclass(slots=True)
class Call:
    """A detached call. *answer* is None while it is open; *error* says why there will be none."""

    entry_id: str
    until: float
    principal: str | None = None
    answer: Response | None = None
    error: BaseException | None = None


class Detached:
    """Remembers the last *kept* detached calls, each for *seconds*; tells *forget* of those it lets go.

    A reply is kept as *encoded*, the answer that is made of it: that is smaller than the objects in it, and its size
    is known. The oldest replies are let go for newer ones where they are more than *kept_bytes* together.
    """

    def __init__(
        self,
        forget: Callable[[str], None],
        encoded: Callable[[Reply], Response],
        *,
        seconds: float,
        kept: int = KEPT,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        self._forget = forget
        self._encoded = encoded
        self._seconds = seconds
        self._kept = kept
        self._kept_bytes = kept_bytes
        self._calls: OrderedDict[str, Call] = OrderedDict()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._bytes = 0

    def add(self, call_id: str, entry_id: str, reply: asyncio.Future[Reply], *, principal: str | None = None) -> None:
        """Remember a call of *principal*. One that was joined may be remembered already."""
        known = self._calls.get(call_id)
        if known is not None and known.error is None:
            return
        self._calls.pop(call_id, None)
        self._calls[call_id] = Call(entry_id, time.monotonic() + self._seconds, principal)
        reply.add_done_callback(partial(self._answered, call_id))
        # All are kept equally long: the oldest is the first whose time is over.
        self._let_go()

    def find(self, call_id: str, *, principal: str | None = None) -> Call | None:
        """Give what we remember of a call of *principal*; others do not learn that there is one."""
        self._let_go()
        call = self._calls.get(call_id)
        return call if call is not None and call.principal == principal else None

    def _answered(self, call_id: str, reply: asyncio.Future[Reply]) -> None:
        call = self._calls.get(call_id)
        if call is None or reply.cancelled():
            return
        call.error = reply.exception()
        if call.error is None:
            call.answer = self._encoded(reply.result())
            self._sizes[call_id] = len(call.answer.body)
            self._bytes += len(call.answer.body)
            while self._bytes > self._kept_bytes:
                self._drop(next(iter(self._sizes)))

    def _let_go(self) -> None:
        now = time.monotonic()
        while self._calls:
            oldest, call = next(iter(self._calls.items()))
            if len(self._calls) <= self._kept and call.until > now:
                break
            self._drop(oldest)

    def _drop(self, call_id: str) -> None:
        del self._calls[call_id]
        self._bytes -= self._sizes.pop(call_id, 0)
        self._forget(call_id)
