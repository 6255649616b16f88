"""What a call costs, without a clock: commands and bytes of Redis, calls of functions, tasks, memory, and garbage."""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
import structlog

import toolspan
from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.toolbox import echo, marked
from toolspan import ToolClient, tool
from toolspan.telemetry.setup import make_probe
from toolspan.testing import running_worker
from toolspan.worker import inflight, settler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from types import FrameType

    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer
    from toolspan.worker.worker import Worker

CALLS = 1_000
FEW_CALLS = 100
_OURS = str(Path(toolspan.__file__).parent)
_CLIENT_LIBRARY = str(Path(redis.__file__).parent)
_APPEND = "for _ = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) end"
_LOSE = """
for _ = 1, ARGV[2] do redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3)) end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'gone-1-0000', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], '>')
local claim = { 'XCLAIM', KEYS[1], ARGV[1], 'gone-1-0000', 0 }
for _, entry in ipairs(read[1][2]) do table.insert(claim, entry[1]) end
for _, option in ipairs({ 'IDLE', 3600000, 'JUSTID' }) do table.insert(claim, option) end
redis.call(unpack(claim))
"""
# What the test itself sends, and what opens a connection.
_NOT_THE_WORKERS = ("info", "xlen", "config", "client", "hello", "select")


@pytest.fixture
def settings(own_server: EmbeddedServer) -> Settings:
    return settings_for(own_server.url, lease_ms=60_000, reap_after_ms=600_000)


@pytest.fixture(autouse=True)
def full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have batches and reads wait for others for as long as any are about to come, however slow the machine is."""
    monkeypatch.setattr(settler, "_LONGEST_GATHERING_NS", 60_000_000_000)
    monkeypatch.setattr(inflight, "_GATHER_SECONDS", 60)


async def test_a_call_of_a_full_batch_costs_little_more_than_its_reply(plane: Plane, settings: Settings) -> None:
    async with _unwatched_worker(settings):
        # The next one comes in a quarter of a minute, and would write down the start of each call that it meets.
        await eventually(lambda: _beaten_twice(plane), because="it has joined, and listens")
        sent = await _commands_sent(plane, _fill(plane, CALLS))

    each = sum(sent.values()) / CALLS
    # Of two, one is the call itself.
    assert sent["xadd"] == 2 * CALLS
    assert each <= 2.3, f"{each:.2f} commands of Redis for each call of a tool"


async def test_taking_over_an_orphan_costs_few_commands_more(plane: Plane, settings: Settings) -> None:
    async with _unwatched_worker(_hasty(settings)):
        await eventually(lambda: _beaten_twice(plane), because="it has joined, and listens")
        sent = await _commands_sent(plane, _lose(plane, CALLS))

    each = sum(sent.values()) / CALLS
    # Of two, one is the call itself, and one its reply; that it was taken over is told of a whole batch at once.
    assert sent["xadd"] <= 2.1 * CALLS
    assert each <= 2.6, f"{each:.2f} commands of Redis for each orphan"


async def test_an_orphan_of_which_nobody_hears_takes_few_calls_of_functions_more(
    plane: Plane, settings: Settings
) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    try:
        async with _unwatched_worker(_hasty(settings)):
            each = await _functions_called(plane, _lose(plane, CALLS)) / CALLS
    finally:
        structlog.reset_defaults()

    assert each <= 60, f"{each:.1f} calls of our functions for each orphan, those for its batch included"


async def test_a_quick_call_takes_few_calls_of_functions(plane: Plane, settings: Settings) -> None:
    """That does not depend on the machine: whoever adds to it sees by how much."""
    async with _unwatched_worker(settings):
        each = await _functions_called(plane, _fill(plane, CALLS)) / CALLS

    assert each <= 44, f"{each:.1f} calls of our functions for each call of a tool, those for its batch included"


async def test_a_call_that_comes_alone_takes_few_calls_of_functions(plane: Plane, settings: Settings) -> None:
    """From its caller and back to him. What asyncio does for it is another one with each version of Python."""
    client = ToolClient(settings, probe=make_probe(keys=settings.keys, consumer="caller"))
    async with _unwatched_worker(settings), client:
        await client.call("echo")
        each = await _functions_called(plane, _one_after_the_other(client), (_OURS, _CLIENT_LIBRARY)) / FEW_CALLS

    assert each <= 330, f"{each:.1f} calls of functions, of ours and of the client library, for a call that comes alone"


async def test_quick_calls_share_their_tasks(plane: Plane, settings: Settings) -> None:
    tasks = await _tasks_made(plane, settings, "echo")

    each = tasks / CALLS
    assert each <= 0.2, f"{each:.2f} tasks for each call of a tool that never waits"


async def test_a_call_that_waits_has_one_task(plane: Plane, settings: Settings, tmp_path: Path) -> None:
    tasks = await _tasks_made(plane, settings, "marked", path=str(tmp_path / "runs"))

    each = tasks / CALLS
    assert 1 <= each <= 1.2, f"{each:.2f} tasks for each call of a tool that waits once"


async def test_a_call_takes_few_bytes_to_and_from_redis(
    plane: Plane, settings: Settings, own_server: EmbeddedServer
) -> None:
    async with (
        Proxy(own_server.port) as proxy,
        _unwatched_worker(settings.model_copy(update={"redis_url": proxy.url})),
    ):
        await eventually(lambda: _beaten_twice(plane), because="it has joined, and listens")
        before = proxy.asked, proxy.answered
        await _fill(plane, CALLS)
        await _drained(plane)
        asked, answered = (proxy.asked - before[0]) / CALLS, (proxy.answered - before[1]) / CALLS

    assert asked <= 195, f"{asked:.0f} bytes that are sent to Redis for each call of a tool"
    assert answered <= 150, f"{answered:.0f} bytes that come from Redis for each call of a tool"


async def test_a_call_that_is_held_takes_few_allocations(plane: Plane, settings: Settings) -> None:
    begun, release = [0], asyncio.Event()

    @tool
    async def waits() -> None:
        begun[0] += 1
        await release.wait()

    async def all_begun() -> bool:
        return begun[0] == settings.concurrency

    async with _unwatched_worker(settings, waits):
        tracemalloc.start()
        try:
            await _fill(plane, settings.concurrency, "waits")
            await eventually(all_begun, because="all are held")
            gc.collect()
            held = [trace.size for trace in tracemalloc.take_snapshot().traces]
        finally:
            tracemalloc.stop()
        release.set()
        await _drained(plane)

    blocks, size = len(held) / settings.concurrency, sum(held) / settings.concurrency
    assert blocks <= 50, f"{blocks:.0f} blocks of memory for each call that is held"
    assert size <= 6_000, f"{size:.0f} bytes of memory for each call that is held"


@pytest.mark.parametrize("tool", ["echo", "marked"])
async def test_a_call_leaves_no_circles_of_garbage(plane: Plane, settings: Settings, tmp_path: Path, tool: str) -> None:
    """Finding them took a tenth of all time, and until then they pushed everything else out of the caches."""
    args = {"path": str(tmp_path / "runs")} if tool == "marked" else {}
    async with _unwatched_worker(settings):
        gc.collect()
        gc.disable()
        try:
            await _fill(plane, CALLS, tool, **args)
            await _drained(plane)
            garbage = gc.collect()
        finally:
            gc.enable()

    each = garbage / CALLS
    assert each < 1, f"{each:.1f} objects of each call are left to the collector"


async def _commands_sent(plane: Plane, filling: Awaitable[None]) -> dict[str, int]:
    """Count the commands that others send until everything is settled with which *filling* fills the stream."""
    await plane.redis.config_resetstat()
    await filling
    await _drained(plane)
    stats = await plane.redis.info("commandstats")
    sent = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in stats.items()}
    return {name: calls for name, calls in sent.items() if not name.startswith(_NOT_THE_WORKERS)}


async def _one_after_the_other(client: ToolClient) -> None:
    for _ in range(FEW_CALLS):
        await client.call("echo")


async def _functions_called(plane: Plane, filling: Awaitable[None], whose: tuple[str, ...] = (_OURS,)) -> int:
    """Count the calls of functions until everything is settled with which *filling* fills the stream.

    Those in the folders *whose*, and those that dataclasses are made with.
    """
    calls = 0

    def count(frame: FrameType, event: str, _about: Any) -> None:
        nonlocal calls
        # How often this test looks whether all is done does not count.
        calls += event == "call" and frame.f_code.co_filename.startswith((*whose, "<string>"))

    sys.setprofile(count)
    try:
        await filling
        await _drained(plane)
    finally:
        sys.setprofile(None)
    return calls


async def _tasks_made(plane: Plane, settings: Settings, tool: str, **args: Any) -> int:
    """Count the tasks that are made while calls of *tool* are worked on."""
    made = 0

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        nonlocal made
        made += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    loop = asyncio.get_running_loop()
    async with _unwatched_worker(settings):
        loop.set_task_factory(make)
        try:
            await _fill(plane, CALLS, tool, **args)
            await _drained(plane)
        finally:
            loop.set_task_factory(None)
    return made


def _hasty(settings: Settings) -> Settings:
    """Give settings with which orphans are looked for as soon as a second after the start."""
    return settings.model_copy(update={"lease_ms": 2_000})


def _unwatched_worker(settings: Settings, *tools: Callable[..., Any]) -> AbstractAsyncContextManager[Worker]:
    """Run a worker whose telemetry goes nowhere, as where nobody has asked for any."""
    probe = make_probe(keys=settings.keys, consumer="test")
    return running_worker(*(tools or (echo, marked)), settings=settings, probe=probe)


async def _fill(plane: Plane, count: int, tool: str = "echo", **args: Any) -> None:
    """Append calls all at once, in one command: so the batches are full, and appending them costs us nothing."""
    fields = plane.codec.encode_call(plane.call(tool, **args))
    append: Any = plane.redis.execute_command("EVAL", _APPEND, 1, plane.keys.calls, count, *fields)
    await append


async def _lose(plane: Plane, count: int) -> None:
    """Append calls that a worker holds which is never heard of, long ago, before anybody else can read them."""
    fields = plane.codec.encode_call(plane.call("echo"))
    keys = plane.keys
    lose: Any = plane.redis.execute_command("EVAL", _LOSE, 1, keys.calls, keys.group, count, *fields)
    await lose


async def _drained(plane: Plane) -> None:
    async def empty() -> bool:
        return not await plane.left()

    await eventually(empty, because="all calls are settled")


async def _beaten_twice(plane: Plane) -> bool:
    stats = await plane.redis.info("commandstats")
    return int(stats.get("cmdstat_zadd", {"calls": 0})["calls"]) >= 2
