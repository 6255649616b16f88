"""`make soak`: many calls while everything goes wrong, and at the end nothing lost, doubled, wrong or left."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
import uvloop
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table

from tests.soak.faults import LEASE_SECONDS, Faults
from tests.soak.fleet import Fleet
from tests.soak.ledger import Ledger, arguments, run_twice
from tests.support.proxy import Proxy
from toolspan.codec import Codec, Limits
from toolspan.model import ToolCall
from toolspan.settings import Settings
from toolspan.store import Connection, DeadLetterStore
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolspan.keys import Keys

WORKERS: Final = 3
BACKLOG: Final = 1_000
AT_ONCE: Final = 100
STUCK_SECONDS: Final = 120.0
_BARS: Final = " ▁▂▃▄▅▆▇█"
_PERMANENT: Final = {"stream", "dlq", "events", "streams", "audit", "reply", "workers", "worker", "schema", "monitor"}


class Soak:
    """One run, against one server."""

    def __init__(self, server: EmbeddedServer, fleet: Fleet, ledger: Ledger, settings: Settings) -> None:
        self._server = server
        self._fleet = fleet
        self._ledger = ledger
        self._keys: Keys = settings.keys
        self._codec = Codec(self._keys, Limits())
        self._reply_to = self._keys.replies("soak")
        self._sent = 0
        self.rates: list[int] = []
        self._redis = redis.asyncio.Redis.from_url(server.url, socket_timeout=30)

    async def run(self, faults: Faults) -> None:
        """Send all calls and hear what becomes of them, while things go wrong until the last was sent."""
        calm = asyncio.Event()
        tasks = [
            asyncio.create_task(self._hear(), name="hear"),
            asyncio.create_task(self._look_after(), name="look after"),
            asyncio.create_task(self._count(), name="count"),
        ]
        troubled = asyncio.create_task(faults.run(until=calm), name="faults")
        try:
            await self._send_all()
            calm.set()
            await troubled
            await self._all_ended()
        finally:
            for task in (troubled, *tasks):
                task.cancel()
            await asyncio.gather(troubled, *tasks, return_exceptions=True)

    async def _send_all(self) -> None:
        while self._sent < self._ledger.calls:
            if self._sent - self._ledger.answered > BACKLOG:
                await asyncio.sleep(0.01)
                continue
            numbers = range(self._sent, min(self._sent + AT_ONCE, self._ledger.calls))
            await self._send(list(numbers))
            self._sent = numbers.stop

    async def _send(self, numbers: list[int]) -> None:
        """Append calls; what was refused is sent again, what was not answered is not."""
        while numbers:
            pipeline = self._redis.pipeline(transaction=False)
            for n in numbers:
                call = ToolCall(str(n), self._ledger.tool(n), arguments(n), reply_to=self._reply_to)
                fields: Any = self._codec.encode_call(call)
                pipeline.execute_command("XADD", self._keys.calls, "*", *fields)
            try:
                answers = await pipeline.execute(raise_on_error=False)
            except (RedisError, OSError):
                self._ledger.unsure.update(numbers)
                await asyncio.sleep(0.05)
                return
            numbers = [n for n, answer in zip(numbers, answers, strict=True) if isinstance(answer, RedisError)]
            if numbers:
                await asyncio.sleep(0.05)

    async def _hear(self) -> None:
        reader = redis.asyncio.Redis.from_url(self._server.url, socket_timeout=30)
        last = "0"
        while True:
            try:
                answer: Any = await reader.execute_command(
                    "XREAD", "COUNT", 1_000, "BLOCK", 500, "STREAMS", self._reply_to, last
                )
                entries = _entries(answer)
                for entry_id, fields in entries:
                    self._ledger.heard(self._codec.decode_reply(fields))
                    last = entry_id
                if entries:
                    await reader.xtrim(self._reply_to, minid=last)
            except (RedisError, OSError):
                await asyncio.sleep(0.05)

    async def _look_after(self) -> None:
        while True:
            self._fleet.look_after()
            await asyncio.sleep(0.1)

    async def _count(self) -> None:
        before = 0
        while True:
            await asyncio.sleep(1)
            self.rates.append(self._ledger.answered - before)
            before = self._ledger.answered

    async def _all_ended(self) -> None:
        """Wait until the stream is empty: as long as anything goes on, and not for ever when nothing does."""
        moved, last = time.monotonic(), -1
        while time.monotonic() - moved < STUCK_SECONDS:
            with suppress(RedisError, OSError):
                left = await self._redis.xlen(self._keys.calls)
                if not left:
                    # What was settled last is heard a moment later.
                    await asyncio.sleep(1)
                    return
                if left != last:
                    moved, last = time.monotonic(), left
            await asyncio.sleep(0.05)

    async def left(self) -> dict[str, int]:
        """Say what is left that should not be, once all workers have gone."""
        left = {"entries": await self._redis.xlen(self._keys.calls)}
        groups: Any = await self._redis.xinfo_groups(self._keys.calls)
        left["pending"] = sum(group["pending"] for group in groups)
        kinds = [key.decode().split(":")[1] async for key in self._redis.scan_iter(f"{self._keys.prefix}:*")]
        left["keys"] = sum(kind not in _PERMANENT for kind in kinds)
        return {what: count for what, count in left.items() if count}

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


def _entries(answer: Any) -> list[tuple[str, list[bytes]]]:
    """Read an answer of XREAD, whose shape depends on the protocol."""
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    found = []
    for _, entries in streams:
        for entry_id, fields in entries[0] if isinstance(answer, dict) else entries:
            pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
            found.append((entry_id.decode(), [part for pair in pairs for part in pair]))
    return found


async def _soak(options: argparse.Namespace, folder: Path) -> bool:
    ledger = Ledger(options.seed, options.calls)
    began = time.monotonic()
    with EmbeddedServer(binary=options.server, tcp=True, aof=True) as server:
        settings = Settings(
            redis_url=server.url, lease_ms=int(LEASE_SECONDS * 1000), reap_after_ms=10_000, drain_seconds=5
        )
        async with Proxy(server.port) as proxy:
            fleet = Fleet(server, proxy, settings, folder, size=WORKERS)
            faults = Faults(fleet, options.seed)
            soak = Soak(server, fleet, ledger, settings)
            try:
                await soak.run(faults)
                undrained = {code: count for code, count in (await asyncio.to_thread(fleet.end)).items() if code}
                connection = Connection.to(server.url)
                ledger.found_dead([letter async for letter in DeadLetterStore(connection, settings.keys).all()])
                await connection.aclose()
                verdicts: dict[str, Any] = {
                    "lost": ledger.lost(),
                    "doubled": ledger.doubled(),
                    "wrong": ledger.wrong,
                    "left": await soak.left(),
                    "at most once, and run twice": run_twice(folder),
                    "innocent in the dead letters": ledger.innocent(),
                    "workers that did not drain": undrained,
                }
            finally:
                fleet.kill()
                await soak.aclose()
    _print(ledger, faults, verdicts, soak.rates, seconds=time.monotonic() - began)
    return not any(verdicts.values())


def _print(ledger: Ledger, faults: Faults, verdicts: Mapping[str, Any], rates: list[int], *, seconds: float) -> None:
    console = Console()
    table = Table(title=f"{ledger.calls} calls in {seconds:.0f} s, seed {ledger.seed}", show_header=False)
    for kind, times in sorted(faults.done.items()):
        table.add_row(kind, str(times))
    table.add_section()
    for what, times in sorted(ledger.quarantined.items()):
        table.add_row(f"dead letters: {what}", str(times))
    table.add_row("append not answered, and no reply", str(sum(not ledger.replies[n] for n in ledger.unsure)))
    table.add_section()
    for what, found in verdicts.items():
        table.add_row(what, f"{len(found)}" + (f"  {list(found)[:5]}" if found else ""))
    console.print(table)
    console.print(f"answered in each second, at most {max(rates, default=0)}; ! where something went wrong")
    marks = [" "] * len(rates)
    for at, _ in faults.timeline:
        if int(at) < len(marks):
            marks[int(at)] = "!"
    for first in range(0, len(rates), console.width):
        console.print(_plot(rates, max(rates))[first : first + console.width], highlight=False)
        console.print("".join(marks)[first : first + console.width], highlight=False)


def _plot(rates: list[int], most: int) -> str:
    return "".join(_BARS[-(-rate * (len(_BARS) - 1) // (most or 1))] for rate in rates)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--server", help="a redis-server; the embedded Valkey without")
    parser.add_argument("--keep", action="store_true", help="leave what the workers logged, and say where")
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
