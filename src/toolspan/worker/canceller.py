"""Hears of calls that were given up, and ends those that we hold."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

    from toolspan.store.cancellations import CancellationStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.cancellations import Cancellations
    from toolspan.worker.completer import Completer
    from toolspan.worker.inflight import InFlight, Work

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0
_STUBBORN_SECONDS: Final = 0.5
"""How long a tool has to end once it is cancelled; then its call is answered without it."""


class Canceller:
    """Cancels the runs of calls that were given up, at once where we hear of it."""

    def __init__(
        self,
        store: CancellationStore,
        cancellations: Cancellations,
        inflight: InFlight,
        completer: Completer,
        probe: Probe,
    ) -> None:
        self._store = store
        self._cancellations = cancellations
        self._inflight = inflight
        self._completer = completer
        self._probe = probe
        self._loop = asyncio.get_running_loop()
        self._heard: set[str] = set()
        self._given_up: asyncio.Queue[tuple[float, Work]] = asyncio.Queue()

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Give what has to run, until cancelled."""
        return [self._listen(), self._answer_for_the_stubborn()]

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

    async def _listen(self) -> None:
        wait = _FIRST_WAIT
        while True:
            try:
                async with self._store.subscribed() as subscription:
                    while True:
                        if self._cancellations.deaf:
                            # Only once we hear: what is told of newer calls cannot have been missed.
                            self._cancellations.hears(await self._store.last_appended_ms())
                            self._probe.recovered("cancel")
                            wait = _FIRST_WAIT
                        call_id = await subscription.next()
                        if call_id is not None:
                            self.cancel([call_id])
            except StoreError as exc:
                self._cancellations.hears_nothing()
                self._probe.outage("cancel", exc)
                await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                wait = min(wait * 2, _LONGEST_WAIT)

    async def _answer_for_the_stubborn(self) -> None:
        """Answer calls whose tools do not let themselves be cancelled; they keep their place until they end."""
        while True:
            due, work = await self._given_up.get()
            await asyncio.sleep(due - self._loop.time())
            if not work.decided and not work.lost and not work.starting:
                self._completer.cancel(work)
