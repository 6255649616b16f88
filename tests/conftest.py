from __future__ import annotations

import gc
import os
import shutil
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

from tests.support.plane import Plane
from tests.support.processes import Workers
from toolspan.gateway.client import ToolClient
from toolspan.settings import Settings
from toolspan.store import Connection
from toolspan.testing import EmbeddedServer, Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator
    from pathlib import Path

# It runs programs that `make stack-test` builds; that target says where they are.
collect_ignore = [] if "TEST_STACK" in os.environ else ["stack"]

_numbers = count()

# What may be left without a time to live: see PROTOCOL, keys.
_PERMANENT = ("stream", "dlq", "workers", "events", "streams", "audit")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests, in each process all of them, without looking for garbage again and again: they stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def server_names() -> list[str]:
    """The servers that every test of Redis runs on; one that is asked for by name must be there."""
    asked = os.environ.get("TEST_SERVERS")
    if asked is not None:
        return asked.split(",")
    return ["valkey", *(["redis"] if shutil.which("redis-server") else [])]


def binary_of(name: str) -> str | None:
    if name == "valkey":
        return None
    path = shutil.which("redis-server")
    assert path, "redis-server was asked for in TEST_SERVERS, and is not installed"
    return path


@pytest.fixture(scope="session", params=server_names())
def server_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def server(server_name: str) -> Iterator[EmbeddedServer]:
    """A server that the tests share; each has a prefix of its own."""
    with EmbeddedServer(binary=binary_of(server_name), tcp=True) as running:
        yield running


@pytest.fixture
def own_server(server_name: str) -> Iterator[EmbeddedServer]:
    """A server for one test that flushes, kills or freezes it."""
    with EmbeddedServer(binary=binary_of(server_name), tcp=True, aof=True) as running:
        yield running


@pytest.fixture
def settings(server: EmbeddedServer) -> Settings:
    return settings_for(server.url)


def settings_for(url: str, **fields: Any) -> Settings:
    """Short times, and a prefix that no other test has."""
    times = {"lease_ms": 1_000, "reap_after_ms": 60_000, "drain_seconds": 10.0}
    return Settings(**{"redis_url": url, "prefix": f"t{next(_numbers)}", **times, **fields})


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    made = Connection.to(settings.redis_url)
    yield made
    await made.aclose()


@pytest.fixture
async def raw(settings: Settings) -> AsyncIterator[redis.asyncio.Redis]:
    """A client that looks from the outside: answers as Redis sends them."""
    connection = Connection.to(settings.redis_url)
    yield connection.commands
    await connection.aclose()


@pytest.fixture
async def plane(settings: Settings, raw: redis.asyncio.Redis, connection: Connection) -> AsyncIterator[Plane]:
    made = Plane(settings, raw, connection)
    yield made
    await _no_leaks(raw, settings.prefix)


@pytest.fixture
def workers(plane: Plane, tmp_path: Path) -> Iterator[Workers]:
    """Real worker processes."""
    made = Workers(plane, tmp_path)
    yield made
    made.end()
    print(made.logs())  # noqa: T201


@pytest.fixture
def recorder(settings: Settings) -> Recorder:
    return Recorder(settings.keys)


@pytest.fixture
async def client(settings: Settings, recorder: Recorder) -> AsyncIterator[ToolClient]:
    async with ToolClient(settings, probe=recorder.probe) as made:
        yield made


async def _no_leaks(raw: redis.asyncio.Redis, prefix: str) -> None:
    """No key may be left that nothing ever ends."""
    if await raw.type(f"{prefix}:stream:tools") not in {b"stream", b"none"}:
        await raw.delete(f"{prefix}:stream:tools")
    keys = [key.decode() async for key in raw.scan_iter(f"{prefix}:*")]
    leaked = []
    # While calls are left, what is on record about them has to be left too.
    permanent = (*_PERMANENT, "attempts", "parked") if await raw.xlen(f"{prefix}:stream:tools") else _PERMANENT
    for key in keys:
        kind = key.split(":")[1]
        # What operators ask for lasts until they take it back; that a worker goes, only until it is reaped.
        if kind == "control":
            going = {field.removeprefix(b"drain:") async for field, _ in raw.hscan_iter(key, "drain:*")}
            if going <= set(await raw.zrange(f"{prefix}:workers:tools", 0, -1)):
                continue
        if kind not in permanent and await raw.pttl(key) == -1:
            leaked.append(key)
    if keys:
        await raw.delete(*keys)
    # Whatever a test put under a reply stream's or the attempts' name on purpose is named so.
    assert not [key for key in leaked if "on-purpose" not in key], f"left without a time to live: {leaked}"
