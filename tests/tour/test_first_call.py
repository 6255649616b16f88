"""The product in a few tests: read these first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan import InvalidArguments, SyncToolClient, ToolClient, ToolError, UnknownTool, current_call, tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from toolspan import Settings


@tool
async def greet(name: str, polite: bool = False) -> str:
    """Greet somebody."""
    return f"Good day, {name}" if polite else f"Hello {name}"


@tool
def divide(a: float, b: float) -> float:
    """Divide; a plain function runs in a thread."""
    return a / b


@tool
async def who() -> str:
    """Tell the id of the call."""
    return current_call().id


async def test_a_call_gets_its_reply(settings: Settings) -> None:
    async with running_worker(greet, settings=settings), ToolClient(settings) as tools:
        reply = await tools.call("greet", {"name": "Ada", "polite": True})

    assert reply.result == "Good day, Ada"
    assert reply.attempt == 1


async def test_what_a_tool_raises_reaches_its_caller(settings: Settings) -> None:
    async with running_worker(divide, settings=settings), ToolClient(settings) as tools:
        with pytest.raises(ToolError, match="division by zero") as raised:
            await tools.call("divide", {"a": 1, "b": 0})

    assert raised.value.type == "tool_error"


async def test_arguments_are_checked_before_the_tool_sees_them(settings: Settings) -> None:
    async with running_worker(divide, settings=settings), ToolClient(settings) as tools:
        with pytest.raises(InvalidArguments, match="b: Field required"):
            await tools.call("divide", {"a": 1})


async def test_a_tool_that_nobody_serves_is_unknown(settings: Settings) -> None:
    async with running_worker(greet, settings=settings), ToolClient(settings) as tools:
        with pytest.raises(UnknownTool):
            await tools.call("shout", {})


async def test_a_tool_knows_its_call(settings: Settings) -> None:
    async with running_worker(who, settings=settings), ToolClient(settings) as tools:
        reply = await tools.call("who")

    assert reply.result == reply.call_id


async def test_callers_can_list_what_is_served(settings: Settings) -> None:
    async with running_worker(greet, divide, settings=settings), ToolClient(settings) as tools:
        served = {tool.name: tool for tool in await tools.tools()}

    assert served.keys() == {"greet", "divide"}
    assert served["greet"].description == "Greet somebody."
    assert served["greet"].schema["required"] == ["name"]


async def test_programs_without_asyncio_call_tools_too(settings: Settings) -> None:
    import asyncio  # noqa: PLC0415

    def program() -> str:
        with SyncToolClient(settings) as tools:
            result: str = tools.call("greet", {"name": "Bob"}).result
            return result

    async with running_worker(greet, settings=settings):
        assert await asyncio.to_thread(program) == "Hello Bob"
