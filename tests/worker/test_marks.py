"""A call that runs at most once: its mark is the last thing that is written before it does."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from tests.support.eventually import eventually
from toolspan import tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings


def _no_such_key(_: str) -> str:
    raise KeyError


@tool(delivery="at_most_once")
async def checked(word: Annotated[str, AfterValidator(_no_such_key)]) -> str:
    return word


async def test_a_call_whose_arguments_cannot_be_checked_was_never_begun(plane: Plane, settings: Settings) -> None:
    async with running_worker(checked, settings=settings):
        await plane.append("checked", "a", word="x")
        reply = await eventually(lambda: plane.reply("a"), because="it is answered")
        await plane.append("checked", "b")
        invalid = await eventually(lambda: plane.reply("b"), because="it is answered, too")

    assert reply.failure.type == "tool_error"
    assert invalid.failure.type == "invalid_arguments"
    assert await plane.dead_letters() == []


async def test_a_call_that_waited_for_a_thread_in_vain_is_run_later(plane: Plane, settings: Settings) -> None:
    free = threading.Event()
    ran: list[str] = []

    @tool(delivery="at_most_once", timeout=0.1)
    def takes_the_thread() -> None:
        free.wait()

    @tool(delivery="at_most_once")
    def waits_for_it() -> str:
        ran.append("ran")
        return "done"

    # The first thread outlives its call: the call has its answer, its place is taken.
    one = settings.model_copy(update={"concurrency": 1, "lease_ms": 400})
    async with running_worker(takes_the_thread, waits_for_it, settings=one):
        await plane.append("takes_the_thread", "first")
        await eventually(lambda: plane.reply("first"), because="its time is up")
        entry_id = await plane.append("waits_for_it", "second")
        await eventually(lambda: _parked(plane, entry_id), because="it is given back")
        free.set()
        reply = await eventually(lambda: plane.reply("second"), because="it is run later")

    assert (reply.result, reply.attempt) == ("done", 1)
    assert ran == ["ran"]
    assert await plane.dead_letters() == []


async def test_a_call_that_waits_for_a_thread_at_the_drain_is_given_back(plane: Plane, settings: Settings) -> None:
    free = threading.Event()

    @tool(timeout=0.1)
    def takes_the_thread() -> None:
        free.wait()

    @tool(delivery="at_most_once")
    def waits_for_it() -> None:
        """Never begun here."""

    one = settings.model_copy(update={"concurrency": 1, "lease_ms": 10_000, "drain_seconds": 0})
    async with running_worker(takes_the_thread, waits_for_it, settings=one) as worker:
        await plane.append("takes_the_thread", "first")
        await eventually(lambda: plane.reply("first"), because="its time is up")
        entry_id = await plane.append("waits_for_it", "second")
        await eventually(lambda: _held_by(plane, entry_id, worker.consumer), because="it is read")
    free.set()

    assert await _parked(plane, entry_id)
    assert await plane.dead_letters() == []
    await plane.redis.delete(plane.keys.parked, plane.keys.calls, plane.keys.attempts)


async def _parked(plane: Plane, entry_id: str) -> bool:
    return await plane.redis.zscore(plane.keys.parked, entry_id) is not None


async def _held_by(plane: Plane, entry_id: str, consumer: str) -> bool:
    return (await plane.pending()).get(entry_id, ("", 0))[0] == consumer
