"""What a call costs Redis, in commands: those inside of scripts count."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer

CALLS = 5_000
# What the test itself sends, and what opens a connection.
_NOT_THE_WORKERS = ("info", "xlen", "config", "client", "hello", "select")


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return settings_for(own_server.url, lease_ms=60_000, reap_after_ms=600_000)


async def test_a_call_of_a_full_batch_costs_little_more_than_its_reply(plane: Plane, settings: Settings) -> None:
    fields = plane.codec.encode_call(plane.call("echo"))
    pipeline = plane.redis.pipeline(transaction=False)
    for _ in range(CALLS):
        pipeline.execute_command("XADD", plane.keys.calls, "*", *fields)
    await pipeline.execute()
    await plane.redis.config_resetstat()
    async with running_worker(echo, settings=settings):
        await eventually(lambda: _drained(plane), because="all calls are settled")
        stats = await plane.redis.info("commandstats")

    sent = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    assert sent["xadd"] == CALLS
    assert sum(calls for name, calls in sent.items() if not name.startswith(_NOT_THE_WORKERS)) <= 1.3 * CALLS


async def _drained(plane: Plane) -> bool:
    return not await plane.left()
