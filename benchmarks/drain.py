"""How fast one worker process drains a backlog of no-op calls with a reply, and what it costs beside the bare loop."""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis
from rich.console import Console
from rich.table import Table

from toolspan.codec import Codec, Limits
from toolspan.model import ToolCall
from toolspan.settings import Settings
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolspan.keys import Keys

FIGURES: Final = {
    "rate": "calls/s",
    "cpu_us": "CPU µs a call",
    "commands": "Redis commands a call",
    "rss_early": "RSS MiB after a tenth",
    "rss_end": "at the end",
}
REFERENCE: Final = "reference"
OURS: Final = "toolspan"
# What this benchmark itself sends.
_NOT_THE_WORKERS: Final = ("config", "info", "xlen")
_FILL_AT_ONCE: Final = 1000
_LOOK_SECONDS: Final = 0.02
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGES_A_MEBIBYTE: Final = 1024 * 1024 / os.sysconf("SC_PAGE_SIZE")


def _command(case: str, url: str) -> list[str]:
    if case == REFERENCE:
        return [sys.executable, "-m", "benchmarks.reference", url]
    return [sys.executable, "-m", "toolspan", "worker", "--tools", "benchmarks.noop", "--log-level", "error"]


@contextmanager
def _started(case: str, url: str, look: redis.Redis) -> Iterator[int]:
    """Run the process of a case, and give its pid once it waits for calls."""
    ours = ("TOOLSPAN_", "OTEL_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    process = subprocess.Popen(_command(case, url), env={**environment, "TOOLSPAN_REDIS_URL": url})
    try:
        while not look.info("clients")["blocked_clients"]:
            if process.poll() is not None:
                message = f"{case} ended with {process.returncode}"
                raise RuntimeError(message)
            time.sleep(_LOOK_SECONDS)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _fill(look: redis.Redis, keys: Keys, count: int) -> None:
    call = ToolCall("018f", "echo", {"n": 1}, reply_to=keys.replies("bench"))
    fields: Any = Codec(keys, Limits()).encode_call(call)
    for _ in range(0, count, _FILL_AT_ONCE):
        pipeline = look.pipeline(transaction=False)
        for _ in range(_FILL_AT_ONCE):
            pipeline.execute_command("XADD", keys.calls, "*", *fields)
        pipeline.execute()


def _measure(case: str, url: str, count: int) -> dict[str, float]:
    """Have *count* calls drained by a process that was started before and had been stopped while they were appended."""
    keys = Settings(redis_url=url).keys
    look = redis.Redis.from_url(url)
    look.flushall()
    look.xgroup_create(keys.calls, keys.group, "0", mkstream=True)
    with _started(case, url, look) as pid:
        os.kill(pid, signal.SIGSTOP)
        _fill(look, keys, count)
        look.config_resetstat()
        began, cpu = time.perf_counter(), _cpu_seconds(pid)
        os.kill(pid, signal.SIGCONT)
        early = 0.0
        while left := look.xlen(keys.calls):
            if not early and left <= count * 0.9:
                early = _rss_mib(pid)
            time.sleep(_LOOK_SECONDS)
        seconds, cpu = time.perf_counter() - began, _cpu_seconds(pid) - cpu
        stats: dict[str, Any] = look.info("commandstats")
        return {
            "rate": count / seconds,
            "cpu_us": cpu / count * 1e6,
            "commands": sum(
                stat["calls"]
                for name, stat in stats.items()
                if not name.removeprefix("cmdstat_").startswith(_NOT_THE_WORKERS)
            )
            / count,
            "rss_early": early,
            "rss_end": _rss_mib(pid),
        }


def _cpu_seconds(pid: int) -> float:
    """User and system time, of all threads; see proc(5)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_A_SECOND


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) / _PAGES_A_MEBIBYTE


def main() -> None:
    """Run the cases in turn, several times, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {REFERENCE: [], OURS: []}
    with EmbeddedServer() as server:
        for _ in range(options.rounds):
            for case, results in runs.items():
                results.append(_measure(case, server.url, options.calls))
    medians = {
        case: {figure: statistics.median(run[figure] for run in results) for figure in FIGURES}
        for case, results in runs.items()
    }
    ratios = {figure: medians[OURS][figure] / medians[REFERENCE][figure] for figure in FIGURES}
    table = Table(title=f"{options.calls} no-op calls with a reply, one worker, medians of {options.rounds}")
    for column in ("", *FIGURES.values()):
        table.add_column(column, justify="right")
    for row, figures in {**medians, "ratio": ratios}.items():
        table.add_row(row, *(f"{figures[figure]:,.2f}" for figure in FIGURES))
    Console().print(table)


if __name__ == "__main__":
    main()
