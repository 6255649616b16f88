"""Descriptions of tools: there for as long as a worker serves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings


async def test_the_description_of_a_tool_does_not_expire_while_a_worker_serves_it(
    plane: Plane, settings: Settings
) -> None:
    short = settings.model_copy(update={"lease_ms": 400, "reap_after_ms": 800})

    async def left_ms() -> int:
        [key] = await plane.redis.keys(plane.keys.schema("*"))
        return int(await plane.redis.pttl(key))

    async with running_worker(echo, settings=short):
        first = await left_ms()

        async def aged() -> bool:
            return await left_ms() < first - 300

        async def renewed() -> bool:
            return await left_ms() > first - 200

        await eventually(aged, because="its time runs")
        await eventually(renewed, because="it is written again", within=3)
