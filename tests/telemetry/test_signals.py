"""What workers and gateways tell of themselves while they run, as their own gauges and through the reporter's."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.gateway.gateways import running_gateway
from tests.support import toolbox
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.telemetry.orphans import lose
from tests.telemetry.test_metrics import counted
from toolspan import ToolClient
from toolspan.monitor.reporter import Reporter
from toolspan.store import Connection, Inspector
from toolspan.store.scripts import Script
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from toolspan import Settings
    from toolspan.model import GroupSnapshot
    from toolspan.testing import EmbeddedServer

ALL = Registry.load(["tests.support.toolbox"])


async def test_a_worker_that_drains_says_so_at_once(
    plane: Plane, settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    slow = settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 600_000})
    inspector = Inspector(connection, plane.keys)
    runs, release = tmp_path / "runs", tmp_path / "release"

    async def workers() -> tuple[int | None, int | None]:
        found = await inspector.snapshot(lease_ms=60_000)
        return found.live_workers, found.draining_workers

    async with running_worker(ALL, settings=slow) as worker:
        await plane.append("until", path=str(runs), release=str(release))
        await eventually(runs.exists, because="it holds a call")
        assert await workers() == (1, 0)
        worker.stop()

        # Its next heartbeat would be due after a quarter of its lease.
        await eventually(lambda: _is(workers, (0, 1)), because="it drains", within=5)
        release.touch()


async def _is(ask: Any, expected: Any) -> bool:
    return bool(await ask() == expected)


async def test_what_runs_again_is_told_by_attempt_and_by_how_long_it_runs(
    plane: Plane, settings: Settings, connection: Connection, tmp_path: Path
) -> None:
    quick = settings.model_copy(update={"lease_ms": 400})
    inspector = Inspector(connection, plane.keys)
    runs, release = tmp_path / "runs", tmp_path / "release"
    await plane.append("until", "orphan", path=str(runs), release=str(release))
    await lose(plane, "dead-1")

    async def snapshot() -> GroupSnapshot:
        return await inspector.snapshot(lease_ms=400)

    async def again() -> bool:
        return (await snapshot()).pending_by_attempt == (0, 1, 0, 0)

    before = (await snapshot()).pending_by_attempt
    async with running_worker(ALL, settings=quick):
        began = time.monotonic()
        await eventually(runs.exists, because="it is run again")
        await eventually(again, because="a heartbeat tells that")
        # It runs for longer than a heartbeat takes, which renews the lease each time.
        await eventually(lambda: _older(snapshot, 0.6), because="its age is that of the run")
        found, most = await snapshot(), time.monotonic() - began
        release.touch()
        await eventually(lambda: plane.reply("orphan"), because="it ends")

    assert before == (1, 0, 0, 0)
    assert found.oldest_pending_age is not None
    assert found.oldest_pending_age < most + 0.5


async def _older(snapshot: Any, seconds: float) -> bool:
    age = (await snapshot()).oldest_pending_age
    return age is not None and age > seconds


async def test_signs_of_life_have_an_age(settings: Settings, recorder: Recorder) -> None:
    async with running_worker(toolbox.echo, settings=settings, probe=recorder.probe):
        await eventually(lambda: recorder.points("toolspan.poll.age"), because="it has read once")
        ages = [recorder.points(name) for name in ("toolspan.heartbeat.age", "toolspan.poll.age")]

    for [(age, attributes)] in ages:
        assert 0 <= age < settings.lease_ms / 1000
        assert attributes == {}


async def test_a_tool_that_blocks_the_loop_is_seen_in_its_lag(
    plane: Plane, settings: Settings, recorder: Recorder, tmp_path: Path
) -> None:
    async with running_worker(ALL, settings=settings, probe=recorder.probe):
        await plane.append("blocks", path=str(tmp_path / "runs"), seconds=0.6)
        await eventually(lambda: plane.reply("blocks"), because="it ends")
        await eventually(lambda: _lag(recorder) > 0.3, because="the loop was late")


def _lag(recorder: Recorder) -> float:
    return max((point.max for point in recorder.data_points("toolspan.loop.lag")), default=0.0)


async def test_a_gateway_tells_how_late_its_loop_is_and_reports_the_group_while_nobody_else_does(
    plane: Plane, settings: Settings, recorder: Recorder, connection: Connection
) -> None:
    await plane.append("echo", reply=False)
    await plane.redis.execute_command("XGROUP", "CREATE", plane.keys.calls, plane.keys.group, "0")
    async with running_gateway(settings, recorder):
        await eventually(lambda: recorder.points("toolspan.group.undelivered"), because="it reports the group")
        await eventually(lambda: recorder.data_points("toolspan.loop.lag"), because="its loop is watched")
        other = Recorder(plane.keys)
        await Reporter(Inspector(connection, plane.keys), other.probe, me="worker", lease_ms=1_000).sweep()

    assert other.points("toolspan.group.undelivered")
    assert recorder.points("toolspan.group.undelivered") == []


async def test_a_settle_that_redis_fails_is_timed_with_its_error(
    plane: Plane, server: EmbeddedServer, recorder: Recorder
) -> None:
    async with Proxy(server.port) as proxy:
        behind = plane.settings.model_copy(update={"redis_url": proxy.url})
        async with running_worker(toolbox.echo, settings=behind, probe=recorder.probe):
            proxy.cut_before(Script("settle")._sha.encode())
            await plane.append("echo")
            await eventually(lambda: plane.reply("echo"), because="it is settled in the end")
    names = ("messaging.operation.name", "error.type")
    settled = counted(recorder, "messaging.client.operation.duration", *names)

    assert settled[("settle", "StoreUnavailableError")] == 1
    assert settled[("settle", "")] == 1


async def test_a_reply_that_nobody_can_read_is_counted_as_malformed(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    async with (
        running_worker(toolbox.echo, settings=settings),
        ToolClient(settings, probe=recorder.probe) as client,
    ):
        await plane.redis.execute_command("XADD", plane.keys.replies(client.gateway_id), "*", "no", "reply")
        await client.call("echo")
        names = ("messaging.destination.template", "error.type")
        await eventually(
            lambda: (
                counted(recorder, "messaging.client.consumed.messages", *names)
                == {(f"{settings.prefix}:reply", ""): 1, (f"{settings.prefix}:reply", "malformed"): 1}
            ),
            because="both were handed to us",
        )


async def test_nothing_is_told_of_the_group_when_our_turn_may_be_over(
    plane: Plane, recorder: Recorder, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await plane.append("echo", reply=False)
    await plane.redis.execute_command("XGROUP", "CREATE", plane.keys.calls, plane.keys.group, "0")
    reporter = Reporter(Inspector(connection, plane.keys), recorder.probe, me="me", lease_ms=1_000)
    await reporter.sweep()
    turn = int(await plane.redis.execute_command("PTTL", plane.keys.monitor)) / 1000
    real = time.monotonic
    fresh = recorder.points("toolspan.group.snapshot.age")
    monkeypatch.setattr(time, "monotonic", lambda: real() + turn)

    assert [0 <= age < 5 for age, _ in fresh] == [True]
    assert recorder.points("toolspan.group.length") == []
    assert recorder.points("toolspan.group.snapshot.age") == []


async def test_who_stops_reporting_tells_nothing_more(
    plane: Plane, settings: Settings, recorder: Recorder, connection: Connection
) -> None:
    await plane.append("echo", reply=False)
    await plane.redis.execute_command("XGROUP", "CREATE", plane.keys.calls, plane.keys.group, "0")
    reporter = Reporter(Inspector(connection, plane.keys), recorder.probe, me="me", lease_ms=settings.lease_ms)
    until = asyncio.Event()
    running = asyncio.create_task(reporter.run(until=until))
    await eventually(lambda: recorder.points("toolspan.group.length"), because="it reports")
    until.set()
    await running

    assert recorder.points("toolspan.group.length") == []
