"""Types of arguments that run code of the tool's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from tests.support.eventually import eventually
from toolspan import tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan import Settings

_KNOWN = {"here": 1}


@tool
async def find(place: Annotated[str, AfterValidator(lambda name: _KNOWN[name])]) -> str:
    """Look a place up before the tool begins."""
    return place


async def test_what_a_type_raises_is_the_error_of_its_tool(plane: Plane, settings: Settings) -> None:
    async with running_worker(find, settings=settings):
        await plane.append("find", place="nowhere")
        reply = await eventually(lambda: plane.reply("find"), because="it is answered")

    assert (reply.failure.type, reply.failure.detail) == ("tool_error", {"exception": "KeyError"})
    assert await plane.dead_letters() == []
