"""Ends calls that were given up, of those that we hold."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from toolspan.worker.cancellations import Cancellations
    from toolspan.worker.completer import Completer
    from toolspan.worker.inflight import InFlight, Work

_STUBBORN_SECONDS: Final = 0.5
"""How long a tool has to end once it is cancelled; then its call is answered without it."""


class Canceller:
    """Cancels the runs of calls that were given up, as soon as it is told of them."""

    def __init__(self, cancellations: Cancellations, inflight: InFlight, completer: Completer) -> None:
        self._cancellations = cancellations
        self._inflight = inflight
        self._completer = completer
        self._loop = asyncio.get_running_loop()
        self._heard: set[str] = set()
        self._given_up: asyncio.Queue[tuple[float, Work]] = asyncio.Queue()

    def cancel(self, call_ids: Iterable[str]) -> None:
        """Remember that calls were given up, and cancel those that run here; many at a time cost one look."""
        call_ids = list(call_ids)
        self._cancellations.add(call_ids)
        if not self._heard:
            self._loop.call_soon(self._cancel_heard)
        self._heard.update(call_ids)

    def _cancel_heard(self) -> None:
        heard, self._heard = self._heard, set()
        due = self._loop.time() + _STUBBORN_SECONDS
        for work in self._inflight:
            call = work.run.call
            if call is not None and call.id in heard and work.give_up():
                self._given_up.put_nowait((due, work))

    async def run(self) -> None:
        """Answer calls whose tools do not let themselves be cancelled, until cancelled; they keep their place."""
        while True:
            due, work = await self._given_up.get()
            await asyncio.sleep(due - self._loop.time())
            if not work.decided and not work.lost and not work.starting:
                self._completer.cancel(work)
