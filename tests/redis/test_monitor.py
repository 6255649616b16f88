"""elect and resign: one process reports the group's gauges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.store import Inspector

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection


@pytest.fixture
def inspector(stage: Stage, connection: Connection) -> Inspector:
    return Inspector(connection, stage.keys)


async def test_the_first_is_elected_for_a_while(stage: Stage, inspector: Inspector) -> None:
    assert await inspector.elect("me", ttl_ms=10_000)
    assert await stage.call("GET", stage.keys.monitor) == b"me"
    assert 0 < await stage.call("PTTL", stage.keys.monitor) <= 10_000


async def test_nobody_is_elected_beside_it(stage: Stage, inspector: Inspector) -> None:
    await inspector.elect("me", ttl_ms=10_000)
    before = await stage.everything()

    assert not await inspector.elect("other", ttl_ms=60_000)
    assert await stage.everything() == before


async def test_whoever_stands_in_makes_room_for_one_who_does_not(stage: Stage, inspector: Inspector) -> None:
    assert await inspector.elect("~gateway", ttl_ms=60_000)
    assert not await inspector.elect("~another", ttl_ms=60_000)

    assert await inspector.elect("worker", ttl_ms=10_000)
    assert await stage.call("GET", stage.keys.monitor) == b"worker"
    assert 0 < await stage.call("PTTL", stage.keys.monitor) <= 10_000
    assert not await inspector.elect("~gateway", ttl_ms=60_000)


async def test_its_turn_is_renewed(stage: Stage, inspector: Inspector) -> None:
    await inspector.elect("me", ttl_ms=10_000)

    assert await inspector.elect("me", ttl_ms=60_000)
    assert await stage.call("PTTL", stage.keys.monitor) > 10_000


async def test_whoever_resigns_leaves_room_for_another(stage: Stage, inspector: Inspector) -> None:
    await inspector.elect("me", ttl_ms=10_000)
    await inspector.resign("me")

    assert await stage.call("EXISTS", stage.keys.monitor) == 0
    assert await inspector.elect("other", ttl_ms=10_000)


async def test_nobody_resigns_for_another(stage: Stage, inspector: Inspector) -> None:
    await inspector.elect("me", ttl_ms=10_000)
    before = await stage.everything()
    await inspector.resign("other")

    assert await stage.everything() == before


async def test_nobody_resigns_where_nobody_is_elected(stage: Stage, inspector: Inspector) -> None:
    before = await stage.everything()
    await inspector.resign("me")

    assert await stage.everything() == before
