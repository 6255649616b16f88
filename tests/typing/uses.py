"""How the API may be used, and on the lines that ignore an error how it may not: mypy checks it, nothing runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import redis.asyncio

import toolspan
from toolspan import (
    CurrentCall,
    Reply,
    Retry,
    Settings,
    SyncToolClient,
    Timings,
    ToolClient,
    ToolError,
    ToolExecConsumer,
    ToolInfo,
    ToolTimeout,
    current_call,
    tool,
    worker_lifespan,
)
from toolspan.testing import EmbeddedServer, Recorder, running_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# ── tools stay the functions that they were ────────────────────────────────────────────────────────────────────────


@tool
async def search(query: str, limit: int = 10) -> list[str]:
    return [query] * limit


@tool(name="math.add", timeout=10, retries=2, backoff=(1, 60), delivery="at_least_once")
def add(a: int, b: int) -> int:
    return a + b


async def uses_tools_as_functions() -> None:
    assert_type(await search("q", limit=1), list[str])
    assert_type(add(1, b=2), int)
    await search(5)  # type: ignore[arg-type]
    add(1)  # type: ignore[call-arg]


tool("search")  # type: ignore[call-overload]
tool(name=5)  # type: ignore[call-overload]
tool(timeout="10")  # type: ignore[call-overload]
tool(retries=1.5)  # type: ignore[call-overload]
tool(backoff=(1, 2, 3))  # type: ignore[arg-type]
tool(delivery="exactly_once")  # type: ignore[call-overload]
tool(search, name="both")  # type: ignore[call-overload]


@worker_lifespan
async def pool() -> AsyncIterator[None]:
    yield


@worker_lifespan  # type: ignore[arg-type]
async def no_pool() -> None: ...


def inside_a_tool() -> None:
    call = current_call()
    assert_type(call, CurrentCall)
    assert_type(call.id, str)
    assert_type(call.attempt, int)
    assert_type(call.remaining(), float | None)
    call.id = "other"  # type: ignore[misc]
    raise Retry(after=1.5)


Retry(after="soon")  # type: ignore[arg-type]


# ── callers ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def calls() -> None:
    async with ToolClient() as tools:
        reply = await tools.call("search", {"query": "redis"}, timeout=5)
        assert_type(reply, Reply)
        assert_type(reply.timings, Timings)
        assert_type(reply.trace_id, str | None)
        assert_type(await tools.send("search", {"query": "redis"}), str)
        assert_type(await tools.tools(), list[ToolInfo])
        try:
            await tools.call("search")
        except ToolTimeout as exc:
            assert_type(exc.type, str)
        except ToolError as exc:
            assert_type(exc.retryable, bool)
        await tools.call(search)  # type: ignore[arg-type]
        await tools.call("search", ["redis"])  # type: ignore[arg-type]
        reply.result = 1  # type: ignore[misc]
    with ToolClient():  # type: ignore[attr-defined]
        pass


def calls_without_asyncio() -> None:
    with SyncToolClient() as tools:
        assert_type(tools.call("search", {"query": "redis"}, timeout=5), Reply)


# ── programs with their own process_fn ─────────────────────────────────────────────────────────────────────────────


async def process(payload: dict[str, Any]) -> None: ...


def plain(payload: dict[str, Any]) -> None: ...


async def without_a_payload() -> None: ...


async def consumes(client: redis.asyncio.Redis) -> None:
    consumer = ToolExecConsumer(client, "label", process, autoclaim_interval=30.0, autoclaim_min_idle=60_000)
    await consumer.start()
    await consumer.stop()
    ToolExecConsumer(client, "label", plain)  # type: ignore[arg-type]
    ToolExecConsumer(client, "label", without_a_payload)  # type: ignore[arg-type]
    ToolExecConsumer(redis.Redis(), "label", process)  # type: ignore[arg-type]


# ── tests of users ─────────────────────────────────────────────────────────────────────────────────────────────────


async def tests() -> None:
    recorder = Recorder()
    with EmbeddedServer() as server:
        assert_type(server.url, str)
        settings = Settings.load(redis_url=server.url)
        async with running_worker(search, add, settings=settings, probe=recorder.probe) as worker:
            assert_type(worker.consumer, str)
        async with running_worker(search):  # type: ignore[call-arg]
            pass
    assert_type(recorder.total("toolspan.calls", toolspan_outcome="ok"), float)
    settings.lease_ms = 5  # type: ignore[misc]


toolspan.Engine()  # type: ignore[attr-defined]
