"""A process dies for real at every point between two awaits, and every promise is kept all the same.

The points are read from the code. `make points` has it die at each in all that goes on there, on every server.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.conftest import server_names
from tests.points.code import PARTS
from tests.points.tour import Tour

if TYPE_CHECKING:
    from pathlib import Path

    from toolspan.testing import EmbeddedServer


# The servers share the points out: each of these processes takes another one to come after it.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", PARTS)
async def test_every_promise_is_kept_wherever_between_two_awaits_a_process_dies(
    server: EmbeddedServer, server_name: str, tmp_path: Path, part: str
) -> None:
    chance = random.Random(server_name)
    async with Tour.on(server, tmp_path, part) as tour:
        scouted = await tour.scout()
        servers = server_names()
        points = sorted(scouted.found)[servers.index(server_name) :: len(servers)]
        broken = await tour.visit([scouted.one_of(point, chance) for point in points], scouted, chance)
        broken += await tour.left()

    assert not scouted.problems, "\n".join(scouted.problems)
    assert not tour.never(scouted), "no scenario takes one there"
    assert not tour.by_mistake(scouted), "it is said of them that nobody gets there"
    assert not broken, "\n".join(broken)
