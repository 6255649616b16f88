"""What goes wrong in a soak, each for real: workers, connections, Redis itself, and the gateway's clock."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import redis

from tests.soak.sender import OTHER_STREAM
from toolspan.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.soak.fleet import Fleet
    from tests.soak.ledger import Ledger

LEASE_SECONDS: Final = 2.0
CALLS_PER_FAULT: Final = 1_000
_TOGETHER: Final = 0.3
"""How many faults come at once behind another, and do not wait until calls were answered again."""

_LONGEST_WAIT: Final = 10.0
_CUT: Final = (b"EVALSHA", b"XREADGROUP")


class Faults:
    """Draws one fault after another from *seed*, every kind once in each bag, and says when each was."""

    def __init__(self, fleet: Fleet, ledger: Ledger, seed: int) -> None:
        self._fleet = fleet
        self._ledger = ledger
        self._chance = random.Random(seed)
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "SIGKILL of a worker": (3, self._kill),
            "SIGSTOP longer than a lease": (1, self._freeze),
            "SIGTERM of a worker": (2, self._end),
            "connections cut": (1, self._disconnect),
            "cut before a step": (2, self._cut_before),
            "cut after a step": (2, self._cut_after),
            "CLIENT PAUSE": (1, self._pause),
            "kill -9 of Redis": (1, self._crash),
            "full server": (1, self._fill),
            "READONLY": (1, self._demote),
            "group destroyed": (1, self._destroy_group),
            "clock of the gateway": (1, self._jump),
        }
        self.done: Counter[str] = Counter(dict.fromkeys(self._kinds, 0))
        self.timeline: list[tuple[float, str]] = []

    @property
    def in_a_bag(self) -> int:
        """How many faults have to come until each kind has."""
        return sum(often for often, _ in self._kinds.values())

    async def run(self, *, until: asyncio.Event) -> None:
        """Let things go wrong until told to stop; what was begun is put right."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for kind in self._drawn():
            await self._calm(until)
            if until.is_set():
                return
            self.timeline.append((loop.time() - began, kind))
            await self._kinds[kind][1]()
            self.done[kind] += 1

    def _drawn(self) -> Iterator[str]:
        bag = [kind for kind, (often, _) in self._kinds.items() for _ in range(often)]
        while True:
            self._chance.shuffle(bag)
            yield from bag

    async def _calm(self, until: asyncio.Event) -> None:
        """Wait until so many calls were answered that faults are spread over the run; sometimes hardly at all."""
        if self._chance.random() < _TOGETHER:
            await asyncio.sleep(self._chance.uniform(0, 0.5))
            return
        loop = asyncio.get_running_loop()
        share = CALLS_PER_FAULT / (1 - _TOGETHER)
        wanted = self._ledger.answered + self._chance.uniform(0.2, 1.8) * share
        began = loop.time()
        while not until.is_set() and loop.time() - began < _LONGEST_WAIT:
            if self._ledger.answered >= wanted:
                return
            await asyncio.sleep(0.02)

    def _signal(self, number: int) -> int:
        """Send a signal to some worker, which may be gone by now."""
        pid = self._chance.choice(self._fleet.workers() or [0])
        with suppress(ProcessLookupError):
            if pid:
                os.kill(pid, number)
        return pid

    async def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    async def _end(self) -> None:
        self._signal(signal.SIGTERM)

    async def _freeze(self) -> None:
        pid = self._signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_SECONDS * self._chance.uniform(1.2, 2))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def _disconnect(self) -> None:
        await self._send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _cut_before(self) -> None:
        self._fleet.proxy.cut_before(self._chance.choice(_CUT))

    async def _cut_after(self) -> None:
        self._fleet.proxy.cut_after(self._chance.choice(_CUT))

    async def _pause(self) -> None:
        await self._send("CLIENT", "PAUSE", int(LEASE_SECONDS * 1000 * self._chance.uniform(0.2, 1.5)), "ALL")

    async def _crash(self) -> None:
        self._fleet.server.kill()
        await asyncio.sleep(self._chance.uniform(0, LEASE_SECONDS * 1.5))
        await asyncio.to_thread(self._fleet.server.start)

    async def _fill(self) -> None:
        await self._send("CONFIG", "SET", "maxmemory", "1mb")
        await asyncio.sleep(self._chance.uniform(0.5, LEASE_SECONDS * 1.5))
        await self._send("CONFIG", "SET", "maxmemory", "0")

    async def _demote(self) -> None:
        # Of a server that is not there: nothing is copied from it, and nothing can be written.
        await self._send("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(self._chance.uniform(0.5, LEASE_SECONDS * 1.5))
        await self._send("REPLICAOF", "NO", "ONE")

    async def _destroy_group(self) -> None:
        keys = self._fleet.settings.keys
        if self._chance.random() < 1 / 3:
            keys = Keys(keys.prefix, OTHER_STREAM)
        with suppress(redis.ResponseError):
            await self._send("XGROUP", "DESTROY", keys.calls, keys.group)

    async def _jump(self) -> None:
        self._fleet.gateway.send_signal(signal.SIGUSR1)

    async def _send(self, *command: Any) -> None:
        await asyncio.to_thread(self._asked, *command)

    def _asked(self, *command: Any) -> None:
        with redis.Redis.from_url(self._fleet.server.url, socket_timeout=30) as client:
            client.execute_command(*command)
