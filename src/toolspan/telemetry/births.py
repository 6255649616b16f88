"""Creates counters at 0 when a process starts; `catalog.BORN_AT_ZERO` says which, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.model import LOSSES, OTHER_TOOL
from toolspan.telemetry import catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.telemetry.catalog import Step
    from toolspan.telemetry.instruments import Instruments


def of_worker(counters: Instruments, tools: Sequence[str], *, replies: str) -> None:
    """Create what a worker that serves *tools* counts; *replies* is what its reply streams are counted under."""
    counters.reaps.add(count=0)
    counters.lost.add("deleted", count=0)
    counters.sent.add("send", "", replies, "", count=0)
    _redis_errors(counters, catalog.WORKER_STEPS)
    for tool in (*tools, OTHER_TOOL):
        _of_tool(counters, tool)


def of_gateway(counters: Instruments, *, calls: str, replies: str) -> None:
    """Create what a gateway counts that sends to the stream *calls*; *replies* as above."""
    for error in ("", "RedisUnavailable"):
        counters.sent.add("send", calls, "", error, count=0)
    for error in ("", "malformed"):
        counters.consumed.add("receive", "", replies, "", error, count=0)
    _redis_errors(counters, catalog.GATEWAY_STEPS)


def of_monitor(counters: Instruments) -> None:
    """Create what a monitor counts."""
    _redis_errors(counters, catalog.MONITOR_STEPS)


def _redis_errors(counters: Instruments, steps: Sequence[Step]) -> None:
    for step in steps:
        for error in catalog.PASSING_ERRORS:
            counters.redis_errors.add(error, step, count=0)


def _of_tool(counters: Instruments, tool: str) -> None:
    for outcome in catalog.ENDS:
        counters.calls.add(tool, outcome, count=0)
        counters.attempts.add(tool, "replay", outcome, count=0)
    for origin in catalog.ORIGINS:
        for outcome in catalog.NO_ENDS:
            counters.attempts.add(tool, origin, outcome, count=0)
    counters.stale_results.add(tool, count=0)
    counters.unparked.add(tool, count=0)
    for reason in catalog.WASTES.values():
        counters.wasted.add(tool, reason, count=0.0)
    for loss in LOSSES:
        counters.reclaims.add(tool, loss, count=0)
    for reason in catalog.DEAD_LETTER_REASONS:
        counters.dead_letters.add(tool, reason, count=0)
