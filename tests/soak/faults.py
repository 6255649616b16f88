"""What goes wrong in a soak, each for real: workers, connections and Redis itself."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import redis

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.soak.fleet import Fleet

LEASE_SECONDS: Final = 2.0


class Faults:
    """Draws one fault after another from *seed*, and says when each was."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self._fleet = fleet
        self._chance = random.Random(seed)
        self._kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "SIGKILL of a worker": (6, self._kill),
            "SIGSTOP longer than a lease": (2, self._freeze),
            "SIGTERM of a worker": (4, self._end),
            "connections cut": (4, self._disconnect),
            "cut before a step": (4, self._cut_before),
            "cut after a step": (4, self._cut_after),
            "CLIENT PAUSE": (2, self._pause),
            "kill -9 of Redis": (2, self._crash),
            "full server": (2, self._fill),
            "READONLY": (1, self._demote),
            "group destroyed": (1, self._destroy_group),
        }
        self.done: Counter[str] = Counter()
        self.timeline: list[tuple[float, str]] = []

    async def run(self, *, until: asyncio.Event) -> None:
        """Let things go wrong until told to stop; what was begun is put right."""
        names = list(self._kinds)
        weights = [weight for weight, _ in self._kinds.values()]
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not until.is_set():
            [kind] = self._chance.choices(names, weights)
            self.timeline.append((loop.time() - began, kind))
            await self._kinds[kind][1]()
            self.done[kind] += 1
            await asyncio.sleep(self._chance.uniform(0.2, 1.5))

    async def _kill(self) -> None:
        self._fleet.replace(self._chance.choice(self._fleet.workers), signal.SIGKILL)

    async def _end(self) -> None:
        worker = self._chance.choice(self._fleet.workers)
        worker.send_signal(signal.SIGTERM)

    async def _freeze(self) -> None:
        worker = self._chance.choice(self._fleet.workers)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE_SECONDS * self._chance.uniform(1.2, 2))
        worker.send_signal(signal.SIGCONT)

    async def _disconnect(self) -> None:
        self._send("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _cut_before(self) -> None:
        self._fleet.proxy.cut_before(b"EVALSHA")

    async def _cut_after(self) -> None:
        self._fleet.proxy.cut_after(b"EVALSHA")

    async def _pause(self) -> None:
        self._send("CLIENT", "PAUSE", int(LEASE_SECONDS * 1000 * self._chance.uniform(0.2, 1.5)), "ALL")

    async def _crash(self) -> None:
        self._fleet.server.kill()
        await asyncio.sleep(self._chance.uniform(0, LEASE_SECONDS * 1.5))
        self._fleet.server.start()

    async def _fill(self) -> None:
        self._send("CONFIG", "SET", "maxmemory", "1mb")
        await asyncio.sleep(self._chance.uniform(0.5, LEASE_SECONDS * 1.5))
        self._send("CONFIG", "SET", "maxmemory", "0")

    async def _demote(self) -> None:
        # Of a server that is not there: nothing is copied from it, and nothing can be written.
        self._send("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(self._chance.uniform(0.5, LEASE_SECONDS * 1.5))
        self._send("REPLICAOF", "NO", "ONE")

    async def _destroy_group(self) -> None:
        keys = self._fleet.settings.keys
        self._send("XGROUP", "DESTROY", keys.calls, keys.group)

    def _send(self, *command: Any) -> None:
        with redis.Redis.from_url(self._fleet.server.url, socket_timeout=30) as client:
            client.execute_command(*command)
