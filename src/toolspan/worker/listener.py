"""Hears at once of calls that were given up, of what operators ask for, and of many orphans."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolspan.keys import Keys
    from toolspan.store import Channels
    from toolspan.store.cancellations import CancellationStore
    from toolspan.store.channels import Told
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.cancellations import Cancellations

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0


class Listener:
    """Listens for this worker, on one connection. Without it, heartbeats and looks at each batch tell the same, later.

    *cancel* is given the ids of calls that were given up; *look* is called when operators have asked for something, or
    may have while nobody listened; *sweep* when another worker has found more orphans than it takes at once.
    """

    def __init__(
        self,
        channels: Channels,
        keys: Keys,
        store: CancellationStore,
        cancellations: Cancellations,
        probe: Probe,
        *,
        cancel: Callable[[list[str]], None],
        look: Callable[[], None],
        sweep: Callable[[], None],
    ) -> None:
        self._channels = channels
        self._cancelled = keys.cancel_prefix
        self._control = keys.control
        self._workers = keys.workers
        self._store = store
        self._cancellations = cancellations
        self._probe = probe
        self._cancel = cancel
        self._look = look
        self._sweep = sweep
        self._unconfirmed = 0

    async def run(self) -> None:
        """Listen until cancelled."""
        wait = _FIRST_WAIT
        try:
            while True:
                try:
                    await self._channels.open()
                    self._unconfirmed = 3
                    await self._channels.subscribe_to_all(self._cancelled)
                    await self._channels.subscribe([self._control, self._workers])
                    while True:
                        self._heed(await self._channels.next())
                        if not self._unconfirmed and self._cancellations.deaf:
                            # Only once we hear: what is told of newer calls cannot have been missed.
                            self._cancellations.hears(await self._store.last_appended_ms())
                            self._probe.recovered("listen")
                            wait = _FIRST_WAIT
                except StoreError as exc:
                    self._cancellations.hears_nothing()
                    self._probe.outage("listen", exc)
                    await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                    wait = min(wait * 2, _LONGEST_WAIT)
        finally:
            await self._channels.close()

    def _heed(self, told: Told | None) -> None:
        if told is None:
            return
        if told.message is None:
            self._unconfirmed -= 1
        if told.channel == self._control:
            # What was announced before we were heard to listen is to be looked for as well.
            self._look()
        elif told.channel == self._workers:
            self._sweep()
        elif told.message is not None:
            self._cancel([told.channel.removeprefix(self._cancelled)])
