"""Whatever a tool does to its own task, its caller hears of it, and its neighbours do not."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import pytest
from pydantic import AfterValidator

from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan import tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import Recorder


class Boom(BaseException):
    """What no `except Exception` catches."""


class Broken(Exception):  # noqa: N818
    """An exception that cannot even be printed."""

    def __str__(self) -> NoReturn:
        raise RuntimeError

    __repr__ = __str__


def _current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task
    return task


@tool
async def cancels_itself() -> None:
    _current().cancel()
    await asyncio.Event().wait()


@tool
async def cancels_itself_too_late() -> str:
    """The cancellation has yet to come when the tool is over."""
    _current().cancel()
    return "done"


@tool
async def swallows_a_cancellation() -> str:
    """What older helpers for timeouts do: the task goes on as one that is being cancelled."""
    _current().cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "done"


@tool(timeout=0.1)
async def hangs_once_it_was_cancelled() -> None:
    _current().cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()


@tool
async def awaits_what_was_cancelled() -> None:
    other = asyncio.create_task(asyncio.Event().wait())
    asyncio.get_running_loop().call_soon(other.cancel)
    await other


@tool
async def raises_what_nobody_catches() -> None:
    raise Boom


@tool
def interrupts() -> None:
    raise KeyboardInterrupt


@tool
def ends_an_iteration() -> None:
    raise StopIteration


@tool
async def raises_what_cannot_be_printed() -> None:
    raise Broken


def _no_such_key(_: str) -> str:
    raise KeyError("region")


@tool
async def validates_badly(region: Annotated[str, AfterValidator(_no_such_key)]) -> str:
    return region


@pytest.mark.parametrize(
    ("function", "exception"),
    [
        (cancels_itself, "CancelledError"),
        (awaits_what_was_cancelled, "CancelledError"),
        (raises_what_nobody_catches, "Boom"),
        (interrupts, "KeyboardInterrupt"),
        (ends_an_iteration, "RuntimeError"),
        (raises_what_cannot_be_printed, "Broken"),
    ],
)
async def test_whatever_is_raised_is_an_error_reply(
    plane: Plane, settings: Settings, function: Any, exception: str
) -> None:
    async with running_worker(function, echo, settings=settings):
        await plane.append(function.__name__, "raised")
        reply = await eventually(lambda: plane.reply("raised"), because="it is answered")
        await plane.append("echo", "next")
        await eventually(lambda: plane.reply("next"), because="the worker goes on")

    assert reply.failure.type == "tool_error"
    assert reply.failure.detail == {"exception": exception}
    assert reply.attempt == 1


@pytest.mark.parametrize("function", [cancels_itself_too_late, swallows_a_cancellation])
async def test_a_cancellation_that_a_tool_leaves_behind_costs_no_result(
    plane: Plane, settings: Settings, function: Any
) -> None:
    async with running_worker(function, settings=settings):
        await plane.append(function.__name__, "late")
        reply = await eventually(lambda: plane.reply("late"), because="it is answered")

    assert reply.result == "done"


async def test_the_timeout_of_a_tool_counts_whatever_it_did_to_its_task(plane: Plane, settings: Settings) -> None:
    async with running_worker(hangs_once_it_was_cancelled, settings=settings):
        await plane.append("hangs_once_it_was_cancelled", "hangs")
        reply = await eventually(lambda: plane.reply("hangs"), because="it is answered")

    assert reply.failure.type == "timeout"


async def test_a_validator_that_breaks_is_an_error_of_its_tool(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    async with running_worker(validates_badly, settings=settings, probe=recorder.probe):
        await plane.append("validates_badly", "bad", region="x")
        reply = await eventually(lambda: plane.reply("bad"), because="it is answered")

    assert (reply.failure.type, reply.attempt) == ("tool_error", 1)
    assert await plane.dead_letters() == []
