"""How fast one worker drains a backlog of no-op calls with a reply, and what it costs, against the reference loop."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import reference
from toolspan import tool
from toolspan.codec import Codec, Limits
from toolspan.model import ToolCall
from toolspan.settings import Settings
from toolspan.store import Connection
from toolspan.telemetry.logs import configure
from toolspan.telemetry.setup import start
from toolspan.testing import EmbeddedServer
from toolspan.tools.registry import Registry
from toolspan.worker.worker import Worker

if TYPE_CHECKING:
    from toolspan.keys import Keys

CASES: Final = ("reference", "toolspan")
FIGURES: Final = {
    "rate": "calls/s",
    "cpu_us": "CPU µs a call",
    "commands": "Redis commands a call",
    "rss_early": "RSS MiB after a tenth",
    "rss_end": "at the end",
}
# What this benchmark itself sends, and what opens a connection.
_NOT_THE_WORKERS: Final = ("config", "info", "xlen", "client", "hello", "select")
_PAGES_A_MEBIBYTE: Final = 1024 * 1024 / resource.getpagesize()
_LOOK_SECONDS: Final = 0.05


async def _echo(n: int) -> dict[str, int]:
    """Give back what came in."""
    return {"n": n}


async def _fill(client: redis.asyncio.Redis, keys: Keys, count: int) -> None:
    codec = Codec(keys, Limits())
    fields: Any = codec.encode_call(ToolCall("018f", "echo", {"n": 1}, reply_to=keys.replies("bench")))
    await client.execute_command("DEL", keys.calls)
    await client.execute_command("XGROUP CREATE", keys.calls, keys.group, "0", "MKSTREAM")
    for _ in range(0, count, 1000):
        pipeline = client.pipeline(transaction=False)
        for _ in range(1000):
            pipeline.execute_command("XADD", keys.calls, "*", *fields)
        await pipeline.execute()


async def _measure(case: str, url: str, count: int) -> dict[str, float]:
    """Drain *count* calls in this process, and say what it cost."""
    settings = Settings(redis_url=url)
    look = redis.asyncio.Redis.from_url(url)
    connection = Connection.to(url)
    await look.config_resetstat()
    began, cpu = time.perf_counter(), time.process_time()
    drain = _reference(connection, settings.keys, count) if case == "reference" else _toolspan(connection, settings)
    draining = asyncio.create_task(drain)
    early = 0.0
    while left := await look.xlen(settings.keys.calls):
        if not early and left <= count * 0.9:
            early = _rss_mib()
        await asyncio.sleep(_LOOK_SECONDS)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    end = _rss_mib()
    stats: dict[str, Any] = await look.info("commandstats")
    commands = sum(
        stat["calls"] for name, stat in stats.items() if not name.removeprefix("cmdstat_").startswith(_NOT_THE_WORKERS)
    )
    draining.cancel()
    await asyncio.wait({draining})
    await connection.aclose()
    await look.aclose()
    return {
        "rate": count / seconds,
        "cpu_us": cpu / count * 1e6,
        "commands": commands / count,
        "rss_early": early,
        "rss_end": end,
    }


async def _reference(connection: Connection, keys: Keys, count: int) -> None:
    await reference.drain(connection.blocking(1000), keys, count=count)


async def _toolspan(connection: Connection, settings: Settings) -> None:
    configure("error")
    telemetry = start("worker", keys=settings.keys, instance_id="bench", server=connection.address)
    await Worker(connection, Registry.of(tool(name="echo")(_echo)), settings, telemetry.probe).run()


def _rss_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) / _PAGES_A_MEBIBYTE


async def _prepare(url: str, count: int) -> None:
    look = redis.asyncio.Redis.from_url(url)
    await look.flushall()
    await _fill(look, Settings(redis_url=url).keys, count)
    await look.aclose()


def _run(case: str, url: str, count: int) -> dict[str, float]:
    asyncio.run(_prepare(url, count))
    command = [sys.executable, "-m", "benchmarks.drain", "--case", case, "--url", url, "--calls", str(count)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(ran.stdout)
    return result


def main() -> None:
    """Run the cases in turn, several times, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--url")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.case:
        sys.stdout.write(json.dumps(uvloop.run(_measure(options.case, options.url, options.calls))))
        return
    with EmbeddedServer() as server:
        runs: dict[str, list[dict[str, float]]] = {case: [] for case in CASES}
        for _ in range(options.rounds):
            for case in CASES:
                runs[case].append(_run(case, server.url, options.calls))
    medians = {
        case: {figure: statistics.median(run[figure] for run in results) for figure in results[0]}
        for case, results in runs.items()
    }
    table = Table(title=f"{options.calls} no-op calls with a reply, one worker, medians of {options.rounds}")
    for column in ("", *FIGURES.values()):
        table.add_column(column, justify="right")
    for case, median in medians.items():
        table.add_row(case, *(f"{median[figure]:,.2f}" for figure in FIGURES))
    ours, theirs = medians["toolspan"], medians["reference"]
    table.add_row("ratio", *(f"{ours[figure] / theirs[figure]:.2f}" for figure in FIGURES))
    Console().print(table)


if __name__ == "__main__":
    main()
