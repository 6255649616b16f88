from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import settings_for
from tests.protocol.outside import Outside, Resp
from tests.support.plane import Plane
from tests.support.processes import Workers
from toolspan.store import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolspan.testing import EmbeddedServer


@pytest.fixture(scope="module")
def outside(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A worker process for all tests of a file, and a plane that only it serves."""
    settings = settings_for(server.url)
    connection = Connection.to(settings.redis_url)
    workers = Workers(Plane(settings, connection.commands, connection), tmp_path_factory.mktemp("worker"))
    with Resp(server.folder / "sock") as redis:
        made = Outside(redis, settings.prefix, workers.spawn(name="outside"))
        reply_to = made.reply_to()
        made.append("v", "1", "id", "first", "tool", "echo", "args", "{}", "reply_to", reply_to)
        # Whoever answers has joined.
        made.answer(reply_to)
        yield made
        workers.end()
        print(workers.logs())  # noqa: T201
        redis("EVAL", _FORGET, 0, f"{settings.prefix}:*")


_FORGET = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end"
