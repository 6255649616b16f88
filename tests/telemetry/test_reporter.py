"""The gauges of the group stand there from one round to the next, also while the next is measured."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from toolspan.errors import StoreUnavailableError
from toolspan.monitor.reporter import Reporter
from toolspan.store import Connection, Inspector

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.testing import Recorder


class Gate:
    """An inspector that waits, or fails, when it is told to."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector
        self.elected = True
        self.waiting = asyncio.Event()
        self.opened = asyncio.Event()
        self.opened.set()
        self.error: Exception | None = None

    async def elect(self, me: str, *, ttl_ms: int) -> bool:
        return self.elected and await self._inspector.elect(me, ttl_ms=ttl_ms)

    async def snapshot(self, *, lease_ms: int, letters: bool) -> Any:
        self.waiting.set()
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        return await self._inspector.snapshot(lease_ms=lease_ms, letters=letters)


@pytest.fixture
async def gate(plane: Plane, connection: Connection) -> Gate:
    await plane.append("echo", reply=False)
    await plane.redis.execute_command("XGROUP", "CREATE", plane.keys.calls, plane.keys.group, "0")
    return Gate(Inspector(connection, plane.keys))


def _length(recorder: Recorder) -> list[float]:
    return [value for value, _ in recorder.points("toolspan.group.length")]


async def test_an_export_in_the_middle_of_a_round_has_the_figures_of_the_last(
    gate: Gate, settings: Settings, recorder: Recorder
) -> None:
    reporter = Reporter(gate, recorder.probe, me="me", lease_ms=settings.lease_ms)  # type: ignore[arg-type]
    await reporter.sweep()
    gate.opened.clear()
    gate.waiting.clear()
    sweep = asyncio.create_task(reporter.sweep())
    await gate.waiting.wait()

    assert _length(recorder) == [1]
    gate.opened.set()
    await sweep
    assert _length(recorder) == [1]


async def test_a_reporter_that_is_no_longer_elected_tells_nothing(
    gate: Gate, settings: Settings, recorder: Recorder
) -> None:
    reporter = Reporter(gate, recorder.probe, me="me", lease_ms=settings.lease_ms)  # type: ignore[arg-type]
    await reporter.sweep()
    gate.elected = False
    await reporter.sweep()

    assert _length(recorder) == []


async def test_a_round_that_fails_leaves_the_figures_that_are_known(
    gate: Gate, settings: Settings, recorder: Recorder
) -> None:
    reporter = Reporter(gate, recorder.probe, me="me", lease_ms=settings.lease_ms)  # type: ignore[arg-type]
    await reporter.sweep()
    gate.error = StoreUnavailableError("cut", maybe_ran=True)
    with pytest.raises(StoreUnavailableError):
        await reporter.sweep()

    # They age: after two rounds nobody tells them any more.
    assert _length(recorder) == [1]


async def test_whoever_begins_to_report_does_not_wait_until_an_export_is_due(
    gate: Gate, settings: Settings, recorder: Recorder
) -> None:
    exported: list[list[float]] = []
    recorder.probe.export_group = lambda: exported.append(_length(recorder))
    reporter = Reporter(gate, recorder.probe, me="me", lease_ms=settings.lease_ms)  # type: ignore[arg-type]
    for elected in (True, True, False, True):
        gate.elected = elected
        await reporter.sweep()

    assert exported == [[1], [1]]
