"""A worker says that it is not ready when it has lost Redis for longer than a lease, and never before."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.support.health import READY, Health

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return settings_for(own_server.url, lease_ms=2_000)


async def test_a_worker_is_not_ready_before_it_has_joined(
    plane: Plane, workers: Workers, own_server: EmbeddedServer
) -> None:
    own_server.signal(signal.SIGSTOP)
    health = await Health.of(workers.spawn("--health-port", "0"))
    error, live = await health.error(), await health.live()
    own_server.signal(signal.SIGCONT)
    await health.becomes(READY)

    assert (error["type"], error["message"]) == ("starting", "this worker has not joined its group yet")
    assert live
    assert len(await plane.beating()) == 1


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_worker_is_not_ready_while_redis_is_away_for_longer_than_a_lease(
    workers: Workers, own_server: EmbeddedServer, how: str
) -> None:
    health = await Health.of(await workers.start("--health-port", "0"))
    await health.becomes(READY)
    if how == "killed":
        own_server.kill()
    else:
        own_server.signal(signal.SIGSTOP)
    at_once = await health.state()
    await health.becomes("heartbeat_late")
    error, live = await health.error(), await health.live()
    if how == "killed":
        own_server.start()
    else:
        own_server.signal(signal.SIGCONT)
    await health.becomes(READY)

    assert at_once == READY
    assert live
    assert error["detail"]["seconds"] > error["detail"]["lease_seconds"] == 2


async def test_a_worker_that_may_not_read_is_not_ready(plane: Plane, workers: Workers) -> None:
    health = await Health.of(await workers.start("--health-port", "0"))
    await health.becomes(READY)
    await plane.redis.execute_command("ACL", "SETUSER", "default", "-xreadgroup")
    await health.becomes("read_late")
    await plane.redis.execute_command("ACL", "SETUSER", "default", "+xreadgroup")
    await health.becomes(READY)
