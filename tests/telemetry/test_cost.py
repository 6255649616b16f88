"""What a call costs that is fully traced, without a clock: functions called, spans and bytes exported, garbage."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import opentelemetry.trace
import pytest

import toolspan
from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan.telemetry.setup import start
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import FrameType

    from tests.support.plane import Plane
    from tests.telemetry.collector import Collector

CALLS = 500
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0{flag}"
_COUNTED = (str(Path(toolspan.__file__).parent), str(Path(opentelemetry.trace.__file__).parent.parent))
_APPEND = "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) end"


@asynccontextmanager
async def _worker(plane: Plane) -> AsyncIterator[None]:
    telemetry = start("worker", keys=plane.keys, instance_id="w")
    settings = plane.settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 600_000})
    async with running_worker(echo, settings=settings, probe=telemetry.probe):
        yield
    await asyncio.to_thread(telemetry.shutdown)


async def _drained(plane: Plane, flag: int) -> None:
    """Have calls appended all at once, and wait until they are settled."""
    fields = plane.codec.encode_call(plane.call("echo"))
    more = ("traceparent", TRACEPARENT.format(flag=flag))
    await plane.redis.execute_command("EVAL", _APPEND, 1, plane.keys.calls, CALLS, *fields, *more)

    async def empty() -> bool:
        return not await plane.left()

    await eventually(empty, because="all calls are settled")


@pytest.mark.parametrize(("flag", "most"), [(1, 95), (0, 90)])
async def test_a_traced_call_takes_few_calls_of_functions(
    plane: Plane, collector: Collector, flag: int, most: int
) -> None:
    """Those of the exporter's thread are not counted. A span of the SDK takes more than all of this."""
    calls = 0

    def count(frame: FrameType, event: str, _about: Any) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code.co_filename.startswith(_COUNTED)

    async with _worker(plane):
        sys.setprofile(count)
        try:
            await _drained(plane, flag)
        finally:
            sys.setprofile(None)

    each = calls / CALLS
    assert len(collector.every_span()) == 3 * CALLS * flag
    assert each <= most, f"{each:.1f} calls of functions for each call of a tool, those for its batch included"


@pytest.mark.parametrize(("flag", "most"), [(1, 1_650), (0, 0)])
async def test_a_traced_call_exports_three_spans_and_few_bytes(
    plane: Plane, collector: Collector, flag: int, most: int
) -> None:
    async with _worker(plane):
        await _drained(plane, flag)

    each = collector.received["/v1/traces"] / CALLS
    rest = collector.received["/v1/metrics"] + collector.received["/v1/logs"]
    assert len(collector.every_span()) == 3 * CALLS * flag
    assert each <= most, f"{each:.0f} bytes of spans for each call of a tool"
    # Metrics and log records do not become more with calls.
    assert rest <= 45_000, f"{rest} bytes of metrics and log records for all calls together"


async def test_a_traced_call_leaves_no_circles_of_garbage(plane: Plane, collector: Collector) -> None:
    async with _worker(plane):
        gc.collect()
        gc.disable()
        try:
            await _drained(plane, 1)
            garbage = gc.collect()
        finally:
            gc.enable()

    each = garbage / CALLS
    assert len(collector.every_span()) == 3 * CALLS
    assert each < 1, f"{each:.1f} objects of each call are left to the collector"
