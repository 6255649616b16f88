"""Clocks are set and machines sleep: no span ends before it starts, and no phase is shorter than nothing."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk import trace as sdk

from tests.telemetry.trees import one
from toolspan import tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan import Settings, ToolClient
    from toolspan.testing import Recorder

HOUR_NS = 3_600_000_000_000


@pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS])
@pytest.mark.parametrize("inside", [False, True])
async def test_no_span_ends_before_it_starts_when_the_clock_is_set(  # noqa: PLR0917
    settings: Settings,
    recorder: Recorder,
    client: ToolClient,
    monkeypatch: pytest.MonkeyPatch,
    step_ns: int,
    inside: bool,
) -> None:
    real = time.time_ns

    def step() -> None:
        for module in (time, sdk):
            monkeypatch.setattr(module, "time_ns", lambda: real() + step_ns)

    @tool
    async def steps() -> None:
        """Run while somebody sets the clock."""
        if inside:
            step()

    async with running_worker(steps, settings=settings, probe=recorder.probe):
        if not inside:
            step()
        await client.call("steps")
    lengths = {span.name: (span.end_time or 0) - (span.start_time or 0) for span in recorder.spans}
    process, execute = one(recorder, f"process {settings.keys.calls}"), one(recorder, "execute_tool steps")

    assert len(lengths) == 5
    assert {name for name, length in lengths.items() if not 0 <= length < HOUR_NS // 2} == set()
    assert (process.start_time or 0) <= (execute.start_time or 0)
    assert (execute.end_time or 0) <= (process.end_time or 0)


async def test_a_tool_that_is_left_behind_has_no_phase_that_never_ended(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    @tool
    async def stubborn() -> None:
        """Not let itself be cancelled."""
        while not released.is_set():
            begun.set()
            with suppress(asyncio.CancelledError):
                await released.wait()

    quick = settings.model_copy(update={"drain_seconds": 0.1})
    async with running_worker(stubborn, settings=quick, probe=recorder.probe):
        await plane.append("stubborn")
        await begun.wait()
    released.set()
    process = one(recorder, f"process {settings.keys.calls}")

    assert {name for name in process.attributes or {} if name.startswith("toolspan.phase.")} == {
        "toolspan.phase.queue",
        "toolspan.phase.admission",
    }
    assert recorder.points("gen_ai.execute_tool.duration") == []
    for span in recorder.spans:
        assert (process.start_time or 0) <= (span.start_time or 0) <= (span.end_time or 0) <= (process.end_time or 0)
