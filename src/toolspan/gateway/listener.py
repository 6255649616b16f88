"""Hears of the ends of calls that somebody else has sent."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from toolspan.codec import decode_record
from toolspan.errors import MalformedEntryError, StoreError
from toolspan.periodic import ended

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from toolspan.model import Reply
    from toolspan.store import Channels
    from toolspan.telemetry.probe import Probe

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0


class Ear:
    """What one waiter has heard since he last asked."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._reply: Reply | None = None

    def wake(self, reply: Reply | None = None) -> None:
        """Have the waiter look again, or give him the reply."""
        self._reply = reply or self._reply
        self._woken.set()

    async def reply(self, *, within: float) -> Reply | None:
        """Wait for the reply; None: look at the record again, something may have been missed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._woken.wait()
        self._woken.clear()
        reply, self._reply = self._reply, None
        return reply


class Listener:
    """Listens to the channels of idempotency records, over one connection that is made when the first is asked for.

    A message can be missed: it comes once, and nobody keeps it. So whoever begins to listen is woken as soon as he
    does, and once more each time the connection was made anew.
    """

    def __init__(self, channels: Channels, probe: Probe) -> None:
        self._channels = channels
        self._probe = probe
        self._ears: dict[str, set[Ear]] = {}
        self._listening: set[str] = set()
        """The channels that Redis has confirmed."""
        self._open = False
        self._reader: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def ear(self, channel: str) -> AsyncIterator[Ear]:
        """Listen to *channel* while the block lasts."""
        ear = Ear()
        ears = self._ears.setdefault(channel, set())
        ears.add(ear)
        try:
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read(), name="listener")
            if channel in self._listening:
                ear.wake()
            elif self._open and len(ears) == 1:
                # If it cannot be sent, the reader notices that, too.
                with suppress(StoreError):
                    await self._channels.subscribe([channel])
            yield ear
        finally:
            ears.discard(ear)
            if not ears:
                await self._forget(channel)

    async def stop(self) -> None:
        """Listen to nothing more."""
        if self._reader is not None:
            await ended(self._reader)
        await self._channels.close()

    async def _forget(self, channel: str) -> None:
        del self._ears[channel]
        self._listening.discard(channel)
        if self._open:
            with suppress(StoreError):
                await self._channels.unsubscribe(channel)

    async def _read(self) -> None:
        wait = _FIRST_WAIT
        # Without anybody who listens, a connection that breaks is none that is missed.
        while self._ears:
            try:
                await self._channels.open()
                self._open = True
                await self._channels.subscribe(list(self._ears))
                self._probe.recovered("listen")
                wait = _FIRST_WAIT
                while True:
                    await self._hear()
            except StoreError as exc:
                self._open = False
                self._listening.clear()
                if self._ears:
                    self._probe.outage("listen", exc)
                    await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
                    wait = min(wait * 2, _LONGEST_WAIT)

    async def _hear(self) -> None:
        told = await self._channels.next()
        if told is None or told.channel not in self._ears:
            return
        reply = None
        if told.message is None:
            self._listening.add(told.channel)
        else:
            try:
                reply = decode_record(told.message).reply
            except MalformedEntryError as exc:
                self._probe.bug("listener", exc)
        for ear in self._ears[told.channel]:
            ear.wake(reply)
