"""What complete telemetry costs: one worker drains a backlog, traced in whole or in part, beside the bare loop.

Time counts until a collector has decoded the last span; nothing may be missing by then.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import redis
from rich.console import Console
from rich.table import Table

from toolspan.codec import Codec, Limits
from toolspan.model import ToolCall, TraceFields
from toolspan.settings import Settings
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolspan.keys import Keys

FIGURES: Final = {"rate": "calls/s", "cpu_us": "CPU µs a call", "rss": "RSS MiB at the end"}
SPANS_A_CALL: Final = 3
_LOOK_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 60.0
_FILL_AT_ONCE: Final = 1000
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGES_A_MEBIBYTE: Final = 1024 * 1024 / os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Case:
    """*sampled* is the part of the calls whose traces are to be recorded; None: nothing is exported at all."""

    name: str
    command: tuple[str, ...]
    sampled: float | None = None

    def environment(self, sink: str) -> dict[str, str]:
        """Give the variables of the process that is measured."""
        if self.sampled is None:
            return {}
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink,
            # Room for whatever waits while the sink is slower than the worker.
            "OTEL_BSP_MAX_QUEUE_SIZE": "1000000",
            # The last batch is part of the time: it leaves soon.
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "30",
        }


WORKER: Final = ("-m", "toolspan", "worker", "--tools", "benchmarks.noop", "--log-level", "error")
REFERENCE: Final = Case("reference", ("-m", "benchmarks.reference"))
CASES: Final = (REFERENCE, Case("not traced", WORKER), Case("traced", WORKER, 1.0), Case("10 % sampled", WORKER, 0.1))


@contextmanager
def _started(arguments: list[str], environment: dict[str, str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, *arguments], env=environment, text=True, **more)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("TOOLSPAN_", "OTEL_"))}


def _fill(look: redis.Redis, keys: Keys, count: int, sampled: float) -> int:
    """Append *count* calls, each with a trace of its own, and tell how many of these are sampled."""
    codec, chance, chosen = Codec(keys, Limits()), random.Random(7), 0  # noqa: S311
    for start in range(0, count, _FILL_AT_ONCE):
        pipeline = look.pipeline(transaction=False)
        for number in range(start, min(start + _FILL_AT_ONCE, count)):
            flag = int(chance.random() < sampled)
            chosen += flag
            trace = TraceFields(f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-{flag:02x}")
            call = ToolCall(f"call-{number:08}", "echo", {"n": 1}, reply_to=keys.replies("bench"), trace=trace)
            fields: Any = codec.encode_call(call)
            pipeline.execute_command("XADD", keys.calls, "*", *fields)
        pipeline.execute()
    return chosen


def _seen(sink: str) -> dict[str, Any]:
    with urllib.request.urlopen(sink) as answer:  # noqa: S310 - our own
        counts: dict[str, Any] = json.load(answer)
        return counts


def _wait_for(fact: Any, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not fact():
        if time.monotonic() > deadline:
            message = f"it took too long until {what}"
            raise RuntimeError(message)
        time.sleep(_LOOK_SECONDS)


def _measure(case: Case, url: str, count: int) -> dict[str, float]:
    keys = Settings(redis_url=url).keys
    look = redis.Redis.from_url(url)
    look.flushall()
    look.xgroup_create(keys.calls, keys.group, "0", mkstream=True)
    environment = _clean_environment()
    with _started(["-m", "benchmarks.sink"], environment, stdout=subprocess.PIPE) as listening:
        sink = f"http://127.0.0.1:{listening.stdout.readline().strip() if listening.stdout else 0}"
        environment |= {"TOOLSPAN_REDIS_URL": url, **case.environment(sink)}
        arguments = [*case.command, url] if case is REFERENCE else list(case.command)
        with _started(arguments, environment) as process:
            _wait_for(lambda: look.info("clients")["blocked_clients"], f"{case.name} waits for calls")
            pid = process.pid
            os.kill(pid, signal.SIGSTOP)
            chosen = _fill(look, keys, count, 1.0 if case.sampled is None else case.sampled)
            began, cpu = time.monotonic(), _cpu_seconds(pid)
            os.kill(pid, signal.SIGCONT)
            _wait_for(lambda: not look.xlen(keys.calls), "all calls were settled")
            ended = time.monotonic()
            if case.sampled is not None:
                spans = chosen * SPANS_A_CALL
                _wait_for(lambda: _seen(sink)["spans"] >= spans, f"{spans} spans had come")
                ended = max(ended, _seen(sink)["last_span"])
            cpu, rss = _cpu_seconds(pid) - cpu, _rss_mib(pid)
            if case.sampled is not None:
                process.send_signal(signal.SIGTERM)
                process.wait(_PATIENCE_SECONDS)
                _check(_seen(sink), count, spans)
            return {"rate": count / (ended - began), "cpu_us": cpu / count * 1e6, "rss": rss}


def _check(seen: dict[str, Any], count: int, spans: int) -> None:
    """Raise if the collector was told another story than what has happened."""
    told = (seen["spans"], seen["sums"]["toolspan.calls"], seen["sums"]["otel.sdk.exporter.span.exported"])
    if told != (spans, count, spans):
        message = f"spans, calls and exported spans were {told}, and not {(spans, count, spans)}"
        raise RuntimeError(message)


def _cpu_seconds(pid: int) -> float:
    """User and system time, of all threads; see proc(5)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICKS_A_SECOND


def _rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) / _PAGES_A_MEBIBYTE


def main() -> None:
    """Run the cases in turn, several times, and print medians and ratios to the first one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    options = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {case.name: [] for case in CASES if case.name in options.cases}
    with EmbeddedServer() as server:
        for _ in range(options.rounds):
            for case in CASES:
                if case.name in runs:
                    runs[case.name].append(_measure(case, server.url, options.calls))
    table = Table(title=f"{options.calls} no-op calls with a reply, one worker, medians of {options.rounds}")
    for column in ("", *FIGURES.values(), "rate beside the first"):
        table.add_column(column, justify="right")
    first = next(iter(runs.values()))
    for name, results in runs.items():
        medians = [f"{statistics.median(run[figure] for run in results):,.1f}" for figure in FIGURES]
        # Each run beside that of its own round: the machine is not the same for long.
        ratio = statistics.median(run["rate"] / beside["rate"] for run, beside in zip(results, first, strict=True))
        table.add_row(name, *medians, f"{ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
