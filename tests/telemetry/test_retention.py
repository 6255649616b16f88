"""The retention of dead letters: by whoever may delete, once in a while, and never in the way of the gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from toolspan.monitor.reporter import Reporter
from toolspan.monitor.retention import Retention
from toolspan.store import DeadLetterStore, Inspector

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.store import Connection
    from toolspan.testing import Recorder


class Stage:
    """One plane with a group, in which dead letters grow old."""

    def __init__(self, plane: Plane, connection: Connection, recorder: Recorder) -> None:
        self._plane = plane
        self._connection = connection
        self._recorder = recorder
        self._letters = DeadLetterStore(connection, plane.keys)

    def reporter(self, me: str = "me", *, days: int | None = 1) -> Reporter:
        retention = Retention(self._letters, self._recorder.probe, days=days)
        inspector = Inspector(self._connection, self._plane.keys)
        return Reporter(inspector, self._recorder.probe, me=me, lease_ms=1_000, retention=retention)

    async def call(self, *command: Any) -> Any:
        return await self._plane.redis.execute_command(*command)

    async def bury(self, letter_id: str) -> None:
        await self.call("XADD", self._plane.keys.dead_letters, letter_id, "what", "ever")

    async def left(self) -> list[str]:
        return [entry.id async for entry in self._letters.entries()]

    async def audit(self) -> list[dict[str, str]]:
        raw = await self.call("XRANGE", self._plane.keys.audit, "-", "+")
        told = [[part.decode() for part in fields] for _, fields in raw]
        return [dict(zip(one[::2], one[1::2], strict=True)) for one in told]


@pytest.fixture
async def stage(plane: Plane, connection: Connection, recorder: Recorder) -> Stage:
    await plane.append("echo", reply=False)
    await plane.redis.execute_command("XGROUP", "CREATE", plane.keys.calls, plane.keys.group, "0")
    return Stage(plane, connection, recorder)


async def test_a_reporter_purges_what_is_too_old(stage: Stage) -> None:
    for letter_id in ("1-1", "1-2", "*"):
        await stage.bury(letter_id)
    await stage.reporter().sweep()

    assert len(await stage.left()) == 1
    [written] = await stage.audit()
    assert (written["action"], written["who"], written["count"], written["up_to"]) == ("purge", "retention", "2", "1-2")
    assert written["why"] == "TOOLSPAN_DLQ_RETENTION_DAYS is 1"


async def test_one_that_is_not_elected_purges_as_well(stage: Stage) -> None:
    """Who is elected may be a gateway, which must not delete anything."""
    await stage.reporter("first", days=None).sweep()
    await stage.bury("1-1")
    await stage.reporter("second").sweep()

    assert await stage.left() == []
    assert len(await stage.audit()) == 1


async def test_without_a_period_they_are_kept_for_ever(stage: Stage) -> None:
    await stage.bury("1-1")
    await stage.reporter(days=None).sweep()

    assert await stage.left() == ["1-1"]


async def test_one_round_in_many_purges(stage: Stage) -> None:
    reporter = stage.reporter()
    await stage.bury("1-1")
    await reporter.sweep()
    await stage.bury("2-1")
    for _ in range(3):
        await reporter.sweep()

    assert await stage.left() == ["2-1"]
    assert len(await stage.audit()) == 1


async def test_figures_are_reported_where_nothing_can_be_purged(stage: Stage, plane: Plane, recorder: Recorder) -> None:
    await stage.call("SET", plane.keys.dead_letters, "not a stream")
    reporter = stage.reporter()
    await reporter.sweep()

    assert [value for value, _ in recorder.points("toolspan.group.length")] == [1]
    assert recorder.total("toolspan.redis.errors", toolspan_role="retention") == 1


async def test_a_period_longer_than_the_clock_keeps_all(stage: Stage) -> None:
    await stage.bury("1-1")
    await stage.reporter(days=36_500).sweep()

    assert await stage.left() == ["1-1"]
