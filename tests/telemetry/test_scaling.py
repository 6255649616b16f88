"""What a fleet is scaled by: a backlog that is there without workers, and that nothing but waiting calls makes up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.runs import starts
from toolspan.monitor.reporter import Reporter
from toolspan.store import Inspector
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.store import Connection
    from toolspan.testing import Recorder


async def test_one_call_is_a_backlog_of_one_also_where_no_worker_ever_was(
    plane: Plane, settings: Settings, recorder: Recorder, connection: Connection, tmp_path: Path
) -> None:
    """From nothing to the first worker it must be seen; what runs must not keep workers that nobody needs."""
    reporter = Reporter(Inspector(connection, plane.keys), recorder.probe, me="me", lease_ms=settings.lease_ms)

    async def backlog() -> float:
        await reporter.sweep()
        return recorder.total("toolspan.group.undelivered") + recorder.total("toolspan.group.parked")

    # A worker, or whoever starts the first one, makes the group.
    await plane.redis.xgroup_create(plane.keys.calls, plane.keys.group, "0", mkstream=True)
    none = await backlog()
    await plane.append("until", path=str(tmp_path / "runs"), release=str(tmp_path / "release"))
    waiting = await backlog()
    async with running_worker(toolbox.until, toolbox.echo, settings=settings):
        await eventually(lambda: starts(tmp_path / "runs"), because="it runs")
        # Each is acknowledged and deleted, after which Redis itself knows no lag any more.
        for n in range(20):
            await plane.append("echo", f"c{n}")
        await eventually(lambda: _left(plane, 1), because="the others are answered")
        running = await backlog()
        (tmp_path / "release").touch()
        await eventually(lambda: _left(plane, 0), because="it is answered")
    done = await backlog()
    await plane.append("echo", "later")
    later = await backlog()

    assert [none, waiting, running, done, later] == [0, 1, 0, 0, 1]


async def _left(plane: Plane, count: int) -> bool:
    return await plane.left() == count
