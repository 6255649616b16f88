"""Threads for `def` tools: never more than allowed, never waited for."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest

from tests.support.eventually import eventually
from toolspan.worker.threads import Threads

_VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")


async def call(threads: Threads, function: Any) -> Any:
    await threads.admit()
    return await threads.run(function)


async def test_a_function_runs_in_a_daemon_thread_and_gives_what_it_returns() -> None:
    thread: threading.Thread = await call(Threads(1), threading.current_thread)

    assert thread is not threading.main_thread()
    assert thread.daemon


async def test_it_sees_the_context_of_its_caller_and_leaves_it_alone() -> None:
    _VARIABLE.set("the caller's")

    def change() -> str:
        seen = _VARIABLE.get()
        _VARIABLE.set("changed")
        return seen

    assert await call(Threads(1), change) == "the caller's"
    assert _VARIABLE.get() == "the caller's"


@pytest.mark.parametrize("error", [ValueError, StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_whatever_it_raises_is_raised_here(error: type[BaseException]) -> None:
    threads = Threads(1)

    def fail() -> None:
        raise error

    async def caught() -> BaseException | None:
        try:
            await call(threads, fail)
        except BaseException as exc:  # noqa: BLE001
            return exc
        return None

    # A coroutine cannot raise StopIteration: Python makes another of it.
    assert type(await caught()) is (RuntimeError if error is StopIteration else error)
    assert await call(threads, lambda: "the place is free again") == "the place is free again"


async def test_a_thread_is_used_again() -> None:
    threads = Threads(10)
    names = {await call(threads, threading.get_ident) for _ in range(20)}

    assert len(names) == 1


async def test_no_more_run_at_once_than_there_are_places() -> None:
    threads = Threads(2)
    running, most, lock = 0, 0, threading.Lock()
    go = threading.Event()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go.wait()
        with lock:
            running -= 1

    calls = [asyncio.create_task(call(threads, work)) for _ in range(6)]
    await eventually(lambda: running == 2, because="both places are taken")
    go.set()
    await asyncio.gather(*calls)

    assert most == 2


async def test_a_thread_whose_caller_gave_up_keeps_its_place_until_it_ends() -> None:
    threads = Threads(1)
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()

    given_up = asyncio.create_task(call(threads, work))
    await eventually(begun.is_set, because="it runs")
    given_up.cancel()
    await asyncio.wait({given_up})
    waiting = asyncio.create_task(call(threads, lambda: "next"))

    assert given_up.cancelled()
    assert threads.abandoned == 1
    assert not waiting.done()
    go.set()
    assert await waiting == "next"
    assert threads.abandoned == 0


async def test_a_place_that_was_not_used_can_be_given_back() -> None:
    threads = Threads(1)
    await threads.admit()
    threads.dismiss()

    assert await call(threads, lambda: 1) == 1


async def test_a_thread_that_the_system_refuses_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads(1)

    def refuse(_: threading.Thread) -> None:
        message = "can't start new thread"
        raise RuntimeError(message)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            await call(threads, lambda: 1)

    assert await call(threads, lambda: 1) == 1


def test_a_thread_that_outlives_its_loop_ends_without_a_word() -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        ended.set()

    async def give_up() -> None:
        running = asyncio.create_task(call(Threads(1), work))
        await eventually(begun.is_set, because="it runs")
        running.cancel()

    asyncio.run(give_up())
    go.set()

    # An error in the thread would be one of this test.
    assert ended.wait(10)
