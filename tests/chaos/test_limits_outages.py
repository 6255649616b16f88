"""Limits for the whole fleet after Redis was away, or has forgotten everything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.runs import starts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.plane import Plane
    from tests.support.processes import Workers
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return settings_for(own_server.url)


@pytest.mark.parametrize("how", ["away", "flushed"])
async def test_all_have_their_turn_again(
    plane: Plane, workers: Workers, own_server: EmbeddedServer, tmp_path: Path, how: str
) -> None:
    runs = tmp_path / "runs"
    await workers.start()
    await plane.append("scarce", "before", path=str(runs))
    await eventually(lambda: plane.reply("before"), because="it has its turn")
    if how == "away":
        own_server.kill()
        await asyncio.to_thread(own_server.start)
    else:
        await plane.redis.flushall()
    for number in range(6):
        await plane.append("scarce", f"c{number}", path=str(runs), seconds=0.1)
    await eventually(lambda: _done(plane), because="all have their turn", within=30)

    assert starts(runs) == 7
    await eventually(lambda: _no_slots(plane), because="all slots are given back")


async def test_what_waits_while_redis_is_away_has_its_turn_when_it_is_back(
    plane: Plane, workers: Workers, own_server: EmbeddedServer, tmp_path: Path
) -> None:
    runs, release = tmp_path / "runs", tmp_path / "release"
    await workers.start()
    for name in ("first", "second"):
        await plane.append("scarce.until", name, path=str(runs), release=str(release))
    await eventually(lambda: starts(runs) == 1, because="one has the only slot")
    own_server.kill()
    release.touch()
    await asyncio.to_thread(own_server.start)
    for name in ("first", "second"):
        reply = await eventually(lambda name=name: plane.reply(name), because="it is answered", within=30)  # type: ignore[misc]
        assert reply.status == "ok"

    await eventually(lambda: _no_slots(plane), because="all slots are given back")


async def _done(plane: Plane) -> bool:
    return {f"c{number}" for number in range(6)} <= {reply.call_id for reply in await plane.replies()}


async def _no_slots(plane: Plane) -> bool:
    return not await plane.redis.exists(plane.keys.slots("scarce"), plane.keys.slots("scarce.until"))
