"""A call that was given up, wherever it is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import settings_for
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.toolbox import (
    asks_sync,
    echo,
    fails,
    flaky,
    later,
    marked,
    marked_sync,
    once,
    swallows,
)
from toolspan import tool
from toolspan.store import CallerStore
from toolspan.store.scripts import compose
from toolspan.testing import Recorder, running_worker
from toolspan.worker import cancellations

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.model import Reply
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.testing import EmbeddedServer


@pytest.fixture
def callers(connection: Connection, plane: Plane) -> CallerStore:
    return CallerStore(connection, plane.keys, gateway_id="one", block_ms=100)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "runs")


def runs(path: str) -> list[str]:
    """One line for each start of a tool."""
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


async def replied(plane: Plane, call_id: str) -> Reply:
    reply: Reply = await eventually(lambda: plane.reply(call_id), because=f"{call_id} is answered")
    return reply


def cancelled(reply: Reply, *, started: bool) -> bool:
    failure = reply.failure
    return failure is not None and failure.type == "cancelled" and failure.detail == {"started": started}


async def listening(plane: Plane) -> bool:
    found: Any = await plane.redis.execute_command("CLIENT", "LIST", "TYPE", "pubsub")
    return bool(found)


async def test_a_call_that_was_given_up_before_any_worker_was_there_is_never_run(
    plane: Plane, callers: CallerStore, settings: Settings, path: str
) -> None:
    await plane.append("marked", "given up", path=path)
    await plane.append("marked", "wanted", path=path)
    await callers.cancel("given up", ttl_ms=60_000)
    async with running_worker(marked, settings=settings):
        assert cancelled(await replied(plane, "given up"), started=False)
        assert (await replied(plane, "wanted")).result == 1

    assert len(runs(path)) == 1
    assert await plane.left() == 0


async def test_so_is_one_in_the_form_of_a_payload(
    plane: Plane, callers: CallerStore, settings: Settings, path: str
) -> None:
    body = {"id": "old", "tool": "marked", "args": {"path": path}, "reply_to": plane.reply_to}
    await plane.add("payload", json.dumps(body))
    await callers.cancel("old", ttl_ms=60_000)
    async with running_worker(marked, settings=settings):
        assert cancelled(await replied(plane, "old"), started=False)

    assert runs(path) == []


async def test_a_call_that_waits_behind_others_is_not_run_once_it_was_given_up(
    plane: Plane, callers: CallerStore, path: str, settings: Settings
) -> None:
    alone = settings.model_copy(update={"concurrency": 1})
    release = asyncio.Event()

    @tool
    async def holds() -> None:
        """Take the only place."""
        await release.wait()

    async with running_worker(marked, holds, settings=alone):
        await eventually(lambda: listening(plane), because="the worker hears of cancellations")
        await plane.append("holds")
        await eventually(plane.pending, because="it runs")
        await plane.append("marked", "given up", path=path)
        await callers.cancel("given up", ttl_ms=60_000)
        # Nobody needs the key who heard the message.
        await plane.redis.delete(plane.keys.cancel("given up"))
        release.set()

        assert cancelled(await replied(plane, "given up"), started=False)
    assert runs(path) == []


async def test_what_runs_is_cancelled_at_once(
    plane: Plane, callers: CallerStore, path: str, settings: Settings
) -> None:
    patient = settings.model_copy(update={"lease_ms": 600_000, "reap_after_ms": 3_600_000})
    recorder = Recorder(settings.keys)
    async with running_worker(marked, settings=patient, probe=recorder.probe):
        await plane.append("marked", "mine", path=path, seconds=60)
        await eventually(lambda: runs(path), because="it runs")
        await eventually(lambda: listening(plane), because="the worker hears of cancellations")
        await callers.cancel("mine", ttl_ms=60_000)

        assert cancelled(await replied(plane, "mine"), started=True)
    [process] = [span for span in recorder.spans if span.name.startswith("process ")]
    assert process.attributes is not None
    assert process.attributes["toolspan.outcome"] == "cancelled"
    assert process.status.is_unset
    assert 0 < recorder.total("toolspan.wasted", gen_ai_tool_name="marked", toolspan_reason="cancelled") < 60


async def test_a_heartbeat_notices_what_nobody_heard(plane: Plane, path: str, settings: Settings) -> None:
    async with running_worker(marked, settings=settings):
        await plane.append("marked", "mine", path=path, seconds=60)
        await eventually(lambda: runs(path), because="it runs")
        # As a message that was lost: only the key tells of it.
        await plane.redis.set(plane.keys.cancel("mine"), "1", ex=60)

        assert cancelled(await replied(plane, "mine"), started=True)


async def test_after_a_break_of_the_subscription_nothing_is_missed(plane: Plane, path: str, settings: Settings) -> None:
    release = asyncio.Event()

    @tool
    async def holds() -> None:
        """Take the only place."""
        await release.wait()

    alone = settings.model_copy(update={"concurrency": 1, "lease_ms": 60_000, "reap_after_ms": 600_000})
    async with running_worker(marked, holds, settings=alone):
        await eventually(lambda: listening(plane), because="the worker hears of cancellations")
        await plane.append("holds")
        await eventually(plane.pending, because="it runs")
        await plane.append("marked", "given up", path=path)
        await plane.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await plane.redis.set(plane.keys.cancel("given up"), "1", ex=60)
        await eventually(lambda: listening(plane), because="it subscribes again")
        release.set()

        assert cancelled(await replied(plane, "given up"), started=False)
    assert runs(path) == []


async def test_more_cancellations_than_are_remembered_are_asked_for(
    plane: Plane, callers: CallerStore, path: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellations, "KEPT", 4)
    release = asyncio.Event()

    @tool
    async def holds() -> None:
        """Take the only place."""
        await release.wait()

    alone = settings.model_copy(update={"concurrency": 1})
    async with running_worker(marked, holds, settings=alone):
        await eventually(lambda: listening(plane), because="the worker hears of cancellations")
        await plane.append("holds")
        await eventually(plane.pending, because="it runs")
        for number in range(20):
            await plane.append("marked", f"call {number}", path=path)
            await callers.cancel(f"call {number}", ttl_ms=60_000)
        release.set()

        for number in range(20):
            assert cancelled(await replied(plane, f"call {number}"), started=False)
    assert runs(path) == []


async def test_a_parked_call_is_settled_without_another_attempt(
    plane: Plane, callers: CallerStore, path: str, settings: Settings
) -> None:
    async with running_worker(later, settings=settings):
        entry_id = await plane.append("later", path=path, good_from=9)
        await eventually(lambda: plane.pending("~parked"), because="it waits for its next attempt")
        await plane.redis.zadd(plane.keys.parked, {entry_id: 9e15})
        await callers.cancel("later", ttl_ms=60_000, entry_id=entry_id)

        assert cancelled(await replied(plane, "later"), started=True)
    assert len(runs(path)) == 1


@pytest.mark.parametrize("form", ["fields", "payload"])
async def test_an_orphan_is_settled_without_being_run(
    plane: Plane, callers: CallerStore, path: str, settings: Settings, form: str
) -> None:
    if form == "fields":
        await plane.append("marked", path=path)
    else:
        body = {"id": "marked", "tool": "marked", "args": {"path": path}, "reply_to": plane.reply_to}
        await plane.add("payload", json.dumps(body))
    await plane.orphan()
    await callers.cancel("marked", ttl_ms=60_000)
    async with running_worker(marked, settings=settings):
        # It may have been begun by whoever died.
        assert cancelled(await replied(plane, "marked"), started=True)

    assert runs(path) == []


async def test_a_marked_orphan_stays_unknown(plane: Plane, callers: CallerStore, path: str, settings: Settings) -> None:
    await plane.append("once", path=path)
    [entry_id] = await plane.orphan()
    await plane.redis.hset(plane.keys.attempts, f"{entry_id}:mark", "somebody")
    await callers.cancel("once", ttl_ms=60_000)
    async with running_worker(once, settings=settings):
        reply = await replied(plane, "once")

    assert reply.failure is not None
    assert reply.failure.type == "outcome_unknown"
    assert [letter.reason for letter in await plane.dead_letters()] == ["outcome_unknown"]


async def test_an_at_most_once_call_that_runs_is_cancelled_and_leaves_no_mark(
    plane: Plane, callers: CallerStore, path: str, settings: Settings
) -> None:
    async with running_worker(once, settings=settings):
        await plane.append("once", path=path, seconds=60)
        await eventually(lambda: runs(path), because="it runs")
        await callers.cancel("once", ttl_ms=60_000)

        assert cancelled(await replied(plane, "once"), started=True)
    assert await plane.redis.exists(plane.keys.attempts) == 0


async def test_an_at_most_once_call_that_is_given_up_while_it_is_begun_is_never_run(
    plane: Plane, callers: CallerStore, path: str, settings: Settings, server: EmbeddedServer
) -> None:
    start = hashlib.sha1(compose("start").encode(), usedforsecurity=False).hexdigest()
    async with Proxy(server.port) as proxy:
        proxy.hold(start.encode())
        async with running_worker(once, settings=settings.model_copy(update={"redis_url": proxy.url})) as worker:
            await plane.append("once", path=path)
            await eventually(lambda: proxy.holds, because="its start is under way")
            await callers.cancel("once", ttl_ms=60_000)
            (work,) = worker._engine._roles.inflight
            await eventually(lambda: work.run.given_up, because="the worker has heard of it")
            proxy.let_go()

            assert cancelled(await replied(plane, "once"), started=False)
    assert runs(path) == []
    assert await plane.redis.exists(plane.keys.attempts) == 0


async def test_a_tool_in_a_thread_is_told_when_it_asks(
    plane: Plane, callers: CallerStore, tmp_path: Path, settings: Settings
) -> None:
    path, seen = str(tmp_path / "runs"), tmp_path / "seen"
    alone = settings.model_copy(update={"concurrency": 2})
    async with running_worker(asks_sync, settings=alone):
        await plane.append("asks.sync", "thread", path=path, seen=str(seen))
        await eventually(lambda: runs(path), because="it runs")
        await callers.cancel("thread", ttl_ms=60_000)

        assert cancelled(await replied(plane, "thread"), started=True)
        await eventually(seen.exists, because="the thread was told")


async def test_a_thread_that_does_not_ask_is_left_behind(
    plane: Plane, callers: CallerStore, path: str, settings: Settings
) -> None:
    async with running_worker(marked_sync, settings=settings):
        await plane.append("marked.sync", "thread", path=path, seconds=2)
        await eventually(lambda: runs(path), because="it runs")
        await callers.cancel("thread", ttl_ms=60_000)

        assert cancelled(await replied(plane, "thread"), started=True)


async def test_a_result_that_comes_after_the_cancellation_is_not_heard(
    plane: Plane, callers: CallerStore, path: str, settings: Settings
) -> None:
    async with running_worker(swallows, settings=settings):
        await plane.append("swallows", path=path)
        await eventually(lambda: runs(path), because="it runs")
        await callers.cancel("swallows", ttl_ms=60_000)

        assert cancelled(await replied(plane, "swallows"), started=True)


async def test_a_tool_that_cannot_be_cancelled_keeps_its_place_but_not_its_caller(
    plane: Plane, callers: CallerStore, settings: Settings
) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    @tool(name="stubborn")
    async def resists() -> str:
        """Not let itself be cancelled before it is let go."""
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return "too late"

    recorder = Recorder(settings.keys)
    async with running_worker(resists, echo, settings=settings, probe=recorder.probe):
        await plane.append("stubborn")
        await begun.wait()
        await callers.cancel("stubborn", ttl_ms=60_000)

        assert cancelled(await replied(plane, "stubborn"), started=True)
        assert recorder.total("toolspan.inflight") == 1
        await plane.append("echo", text="and others go on")
        assert (await replied(plane, "echo")).result == "and others go on"
        release.set()
        await eventually(lambda: recorder.total("toolspan.inflight") == 0, because="it has ended")
    assert len(await plane.replies()) == 2
    assert recorder.total("toolspan.calls", gen_ai_tool_name="stubborn", toolspan_outcome="cancelled") == 1
    assert recorder.total("toolspan.stale_results") == 0


async def test_an_outcome_that_was_known_before_wins(plane: Plane, callers: CallerStore, settings: Settings) -> None:
    async with running_worker(echo, settings=settings):
        await plane.append("echo", text="done")
        reply = await replied(plane, "echo")
        await callers.cancel("echo", ttl_ms=60_000)
        await plane.append("echo", "next", text="next")
        await replied(plane, "next")

    assert reply.result == "done"
    assert len(await plane.replies()) == 2


async def test_a_cancelled_fire_and_forget_call_ends_in_silence(
    plane: Plane, callers: CallerStore, settings: Settings
) -> None:
    await plane.append("fails", reply=False)
    await callers.cancel("fails", ttl_ms=60_000)
    async with running_worker(fails, flaky, settings=settings):
        await eventually(lambda: _settled(plane), because="it is settled")

    assert await plane.dead_letters() == []
    assert await plane.replies() == []


async def test_what_is_heard_costs_no_command(plane: Plane, settings: Settings) -> None:
    """A worker that listens asks for nothing that was appended since."""
    patient = settings_for(settings.redis_url, lease_ms=60_000, reap_after_ms=600_000, prefix=settings.prefix)
    async with running_worker(echo, settings=patient):
        await eventually(lambda: listening(plane), because="the worker hears of cancellations")
        await plane.append("echo", "first")
        await replied(plane, "first")
        before = await _looks(plane)
        for number in range(20):
            await plane.append("echo", f"call {number}")
        for number in range(20):
            await replied(plane, f"call {number}")

        assert await _looks(plane) == before


async def _looks(plane: Plane) -> int:
    stats: Any = await plane.redis.info("commandstats")
    return int(stats.get("cmdstat_mget", {}).get("calls", 0))


async def _settled(plane: Plane) -> bool:
    return not await plane.left()
