"""A failover by real Sentinels: the fleet goes on with the new primary, and nothing that was settled is run twice."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.runs import starts, starts_in
from tests.support.sentinel import SERVICE, Fleet
from toolspan.errors import NotReplicatedError, RedisUnavailable, StoreUnavailableError
from toolspan.gateway.client import ToolClient
from toolspan.operate.readiness import wait_for
from toolspan.store import CallerStore, Connection, Inspector
from toolspan.store.wires import NotConnectedError
from toolspan.testing import Recorder, running_worker
from toolspan.tools.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from toolspan.keys import Keys

ALL = Registry.load(["tests.support.toolbox"])
CALLS = 20


@pytest.fixture
def fleet(tmp_path: Path, server_name: str) -> Iterator[Fleet]:
    with Fleet(tmp_path, kind=server_name) as running:
        yield running


async def test_a_worker_goes_on_with_the_new_primary_and_runs_nothing_twice_that_was_settled(
    fleet: Fleet, tmp_path: Path
) -> None:
    settings = settings_for(fleet.url, lease_ms=60_000, reap_after_ms=600_000)
    runs = tmp_path / "runs"
    runs.mkdir()
    held, release = tmp_path / "held", tmp_path / "release"
    recorder, asking = Recorder(settings.keys), Recorder(settings.keys)
    async with (
        running_worker(ALL, settings=settings, probe=recorder.probe),
        ToolClient(settings, probe=asking.probe) as client,
    ):
        for number in range(CALLS):
            await client.call("marked", {"path": str(runs / f"before-{number}")})
        waiting = asyncio.create_task(client.call("until", {"path": str(held), "release": str(release)}, timeout=60))
        await eventually(lambda: starts(held), because="a call is held while the primary dies")
        with fleet.client(0) as primary:
            # Replication is asynchronous; what it has not yet passed on is not what this test is about.
            assert primary.execute_command("WAIT", 1, 5000) == 1
        before = _outages(recorder)
        last_beat = _last_beat(fleet, settings.keys)
        fleet.servers[0].kill()
        await eventually(lambda: _is_primary(fleet), because="Sentinel makes the replica primary", within=40)
        release.touch()
        reply = await waiting
        await eventually(lambda: _called(client, runs), because="calls are taken and answered again", within=30)

        await eventually(lambda: _last_beat(fleet, settings.keys) > last_beat, because="its heartbeats follow as well")

        assert reply.result == 1
        assert set(starts_in(runs).values()) == {1}
        steps = _outages(recorder) - before
        assert steps
        assert all(count == 1 for count in steps.values()), steps


def _outages(recorder: Recorder) -> Counter[str]:
    return Counter(about["toolspan.role"] for name, about in recorder.events if name == "toolspan.redis.down")


def _last_beat(fleet: Fleet, keys: Keys) -> float:
    """When the one worker was last heard of, as the second server knows it."""
    with fleet.client(1) as server:
        [(_, beat)] = server.zrange(keys.workers, 0, -1, withscores=True)
        return float(beat)


def _is_primary(fleet: Fleet) -> bool:
    with fleet.client(1) as replica:
        return bool(replica.execute_command("ROLE")[0] == "master")


async def _called(client: ToolClient, runs: Path) -> bool:
    try:
        return bool((await client.call("marked", {"path": str(runs / "after")}, timeout=30)).result == 1)
    except RedisUnavailable as exc:
        if exc.maybe_accepted:
            raise
        return False


async def test_what_is_wrong_with_a_sentinel_is_told(fleet: Fleet) -> None:
    wrong = fleet.url.replace("of-sentinels", "of-nobody")
    unknown = fleet.url.replace(SERVICE, "nothing")
    told = []
    for url in (wrong, unknown):
        connection = Connection.to(url)
        with pytest.raises(StoreUnavailableError) as raised:
            await Inspector(connection, settings_for(url).keys).ping()
        await connection.aclose()
        assert not raised.value.maybe_ran
        told.append(str(raised.value))

    assert "no Sentinel names the primary of tools-primary" in told[0]
    assert "invalid username-password pair" in told[0]
    assert "of-nobody" not in told[0]
    assert f"127.0.0.1:{fleet.ports[1]} does not know it" in told[1]


async def test_a_sentinel_that_is_away_is_no_trouble_as_long_as_another_is_there(fleet: Fleet) -> None:
    url = fleet.url.replace("@127", "@127.0.0.1:1,127", 1)
    await wait_for([url], within=5)
    # Its heartbeat asks by itself.
    async with running_worker(ALL, settings=settings_for(url)) as worker:
        assert worker.ready.is_set()


async def test_a_replica_that_sentinel_takes_for_the_primary_is_not_talked_to(fleet: Fleet) -> None:
    with fleet.sentinel(0) as sentinel:
        # As one that hears of a failover late: nobody agrees with it, so that it does nothing about it.
        sentinel.execute_command("SENTINEL", "MONITOR", "late", "127.0.0.1", fleet.servers[1].port, 2)
    connection = Connection.to(fleet.url.replace(SERVICE, "late"))
    with pytest.raises(StoreUnavailableError, match="is not the primary, although Sentinel says so") as raised:
        await Inspector(connection, settings_for(fleet.url).keys).ping()
    await connection.aclose()
    threaded = connection.threaded(5)
    with pytest.raises(NotConnectedError, match="is not the primary, although Sentinel says so"):
        threaded.ping()
    threaded.close()

    assert not raised.value.maybe_ran


async def test_an_append_that_too_few_replicas_confirm_may_have_been_accepted(fleet: Fleet) -> None:
    settings = settings_for(fleet.url, wait_replicas=1)
    connection = Connection.to(fleet.url)
    caller = CallerStore(connection, settings.keys, gateway_id="g", block_ms=10, wait_replicas=1)
    assert await caller.append(["tool", "echo"])

    fleet.servers[1].signal(signal.SIGSTOP)
    with pytest.raises(NotReplicatedError, match="0 of 1 replicas did") as raised:
        await caller.append(["tool", "echo"])
    async with ToolClient(settings, probe=Recorder(settings.keys).probe) as client:
        with pytest.raises(RedisUnavailable, match="may have taken the call") as refused:
            await client.send("echo")
    fleet.servers[1].signal(signal.SIGCONT)
    length = await connection.commands.xlen(settings.keys.calls)
    await connection.aclose()

    assert raised.value.maybe_ran
    assert refused.value.maybe_accepted
    assert length == 3


async def test_a_call_that_runs_at_most_once_is_not_begun_before_replicas_know_of_it(
    fleet: Fleet, tmp_path: Path
) -> None:
    settings = settings_for(fleet.url, wait_replicas=1)
    recorder, run = Recorder(settings.keys), tmp_path / "run"
    plain = settings.model_copy(update={"wait_replicas": 0})
    async with (
        running_worker(ALL, settings=settings, probe=recorder.probe),
        ToolClient(plain, probe=Recorder(settings.keys).probe) as client,
    ):
        fleet.servers[1].signal(signal.SIGSTOP)
        asking = asyncio.create_task(client.call("once", {"path": str(run)}, timeout=60))
        await eventually(lambda: _outages(recorder)["start"] == 1, because="the start is not confirmed")
        begun = starts(run)
        fleet.servers[1].signal(signal.SIGCONT)
        reply = await asking

        assert begun == 0
        assert reply.result == 1
        assert starts(run) == 1
        assert _outages(recorder)["start"] == 1
