"""`make soak`: many calls while everything goes wrong, and at the end nothing lost, doubled, wrong or left."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
import uvloop

from tests.soak.faults import CALLS_PER_FAULT, LEASE_SECONDS, Faults
from tests.soak.fleet import Fleet
from tests.soak.hearer import Hearer
from tests.soak.ledger import Ledger, run_twice
from tests.soak.remains import remains, remains_at_last
from tests.soak.report import tell
from tests.soak.sender import Sender, StuckError
from tests.support.proxy import Proxy
from toolspan.settings import Settings
from toolspan.store import Connection, DeadLetterStore
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REAP_SECONDS: Final = 10
AFTER_FLUSH: Final = 500
_COMPACT: Final = ("--auto-aof-rewrite-min-size", "16mb")
"""Rewritten often, a file is loaded quickly: a server that is killed shall not be away for long."""

_LAST_HEARD_SECONDS: Final = 1.0
"""What was settled last is heard a moment later."""


class Soak:
    """One run, against one server."""

    def __init__(self, server: EmbeddedServer, fleet: Fleet, ledger: Ledger, settings: Settings) -> None:
        self._server = server
        self._fleet = fleet
        self._ledger = ledger
        self._settings = settings
        self._redis = redis.asyncio.Redis.from_url(server.url, socket_timeout=30)
        self._connection = Connection.to(server.url)
        self._sender = Sender(self._redis, self._connection, ledger, settings)
        self._streams = [self._sender.keys, self._sender.other]
        self.hearer = Hearer(server.url, settings.keys, self._sender.reply_to, ledger)

    async def run(self, faults: Faults) -> dict[str, Any]:
        """Send all calls while things go wrong, then flush the server; give what is not as it should be."""
        left: dict[str, Any] = {}
        async with self._served():
            stuck = await self._troubled(faults)
            code = await asyncio.to_thread(self._fleet.end_gateway)
            if not stuck:
                left = await self._left()
            self._ledger.found_dead([letter async for letter in self._letters()])
            if not stuck:
                await self._flush()
                left |= await self._left()
        undrained = await asyncio.to_thread(self._fleet.end)
        self._ledger.read(self._fleet.folder)
        return {
            "lost": self._ledger.lost(),
            "doubled": self._ledger.doubled(),
            "wrong": self._ledger.wrong,
            "left": left,
            "left after the drain": await remains(self._redis, self._streams, workers=False),
            "at most once, and run twice": run_twice(self._fleet.folder),
            "innocent in the dead letters": self._ledger.innocent(),
            "stuck": stuck,
            "faults that never came": self._never_came(faults),
            "processes that did not drain": undrained | ({"gateway": code} if code else {}),
            "processes left": self._fleet.left(),
        }

    async def _troubled(self, faults: Faults) -> list[str]:
        found: list[str] = []
        calm = asyncio.Event()
        troubled = asyncio.create_task(faults.run(until=calm), name="faults")
        try:
            await self._sender.send_all(range(self._ledger.calls))
            calm.set()
            await troubled
            await self._sender.until_fewer_than(1)
        except* StuckError as stuck:
            found = [str(one) for one in stuck.exceptions]
        finally:
            calm.set()
            await troubled
        await asyncio.sleep(_LAST_HEARD_SECONDS)
        return found

    async def _left(self) -> dict[str, Any]:
        return await remains_at_last(self._redis, self._streams, within=3 * REAP_SECONDS)

    async def _flush(self) -> None:
        """Lose everything at once, as an operator's slip would: whatever comes after it is answered all the same."""
        await self._redis.flushall()
        await self._sender.send_all(range(self._ledger.calls, len(self._ledger.replies)))
        await self._sender.until_fewer_than(1)
        await asyncio.sleep(_LAST_HEARD_SECONDS)

    @asynccontextmanager
    async def _served(self) -> AsyncIterator[None]:
        """Hear what is answered, and keep the fleet alive, until the block is left."""
        runs = {"hear": self.hearer.hear(), "count": self.hearer.count(), "look after": self._look_after()}
        tasks = [asyncio.create_task(run, name=name) for name, run in runs.items()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_after(self) -> None:
        while True:
            self._fleet.look_after()
            await asyncio.sleep(0.1)

    def _never_came(self, faults: Faults) -> list[str]:
        if self._ledger.calls < 2 * CALLS_PER_FAULT * faults.in_a_bag:
            return []
        return [kind for kind, times in faults.done.items() if not times]

    def _letters(self) -> AsyncIterator[Any]:
        return DeadLetterStore(self._connection, self._settings.keys).all()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.hearer.aclose()
        await self._redis.aclose()
        await self._connection.aclose()


async def _soak(options: argparse.Namespace, folder: Path) -> bool:
    ledger = Ledger(options.seed, options.calls, AFTER_FLUSH)
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(binary=options.server, tcp=True, aof=True, options=_COMPACT))
        settings = Settings(
            redis_url=server.url,
            lease_ms=int(LEASE_SECONDS * 1000),
            reap_after_ms=REAP_SECONDS * 1000,
            drain_seconds=5,
        )
        proxy = await stack.enter_async_context(Proxy(server.port))
        fleet = Fleet(server, proxy, settings, folder)
        stack.callback(fleet.kill)
        faults = Faults(fleet, ledger, options.seed)
        soak = Soak(server, fleet, ledger, settings)
        stack.push_async_callback(soak.aclose)
        verdicts = await soak.run(faults)
    tell(ledger, faults, verdicts, soak.hearer.rates, seconds=time.monotonic() - began)
    return not any(verdicts.values())


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", help="a redis-server; the embedded Valkey without")
    parser.add_argument("--keep", action="store_true", help="leave what the processes logged, and say where")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        return 0 if uvloop.run(_soak(options, folder)) else 1
    finally:
        if options.keep:
            print(f"logs are in {folder}")  # noqa: T201
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
