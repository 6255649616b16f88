from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.redis.stage import Stage

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.store import Connection, StreamStore


@pytest.fixture
async def stage(plane: Plane, connection: Connection) -> Stage:
    made = Stage(plane, connection)
    await made.call("XGROUP", "CREATE", made.keys.calls, made.keys.group, "0", "MKSTREAM")
    return made


@pytest.fixture
def store(stage: Stage) -> StreamStore:
    """What the consumer `me` may do."""
    return stage.store()
