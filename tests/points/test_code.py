"""The call at each point of a piece of code: none is missing, and the code does what it did."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.points.code import PARTS, Code, Point, marked
from tests.points.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_SOURCE = """
async def numbers(count):
    for number in range(count):
        await pause()
        yield number

class Some:
    async def story(self, fails):
        async with door("in") as room:
            doubled = [2 * number async for number in numbers(await count())]
        async for number in numbers(1):
            doubled.append(number)
        async with door("out"):
            if fails:
                raise KeyError(await pause())
        return room, doubled
"""
_POINTS = [
    ("numbers", "before", "await pause()"),
    ("numbers", "after", "await pause()"),
    ("Some.story", "before", "async with door('in')"),
    ("Some.story", "after", "async with door('in')"),
    ("Some.story", "before the end of", "async with door('in')"),
    ("Some.story", "after the end of", "async with door('in')"),
    ("Some.story", "before", "async for number"),
    ("Some.story", "after", "async for number"),
    ("Some.story", "before", "await count()"),
    ("Some.story", "after", "await count()"),
    ("Some.story", "before", "async for number in numbers(1)"),
    ("Some.story", "after", "async for number in numbers(1)"),
    ("Some.story", "before", "async with door('out')"),
    ("Some.story", "after", "async with door('out')"),
    ("Some.story", "before the end of", "async with door('out')"),
    ("Some.story", "after the end of", "async with door('out')"),
    ("Some.story", "before", "await pause()"),
    ("Some.story", "after", "await pause()"),
]


@asynccontextmanager
async def _door(name: str) -> AsyncIterator[str]:
    yield name


async def _count() -> int:
    return 2


class _Noted(Hooks):
    """Only notes which points are passed, in their order."""

    def __init__(self) -> None:
        super().__init__(lambda: False)
        self.passed: list[int] = []

    def _passed(self, number: int, value: Any = None) -> Any:
        self.passed.append(number)
        return value


async def _told(*, fails: bool) -> tuple[Any, list[int]]:
    """Run the code with its calls; give what came of it, and the numbers of the points in their order."""
    hooks = _Noted()
    names: dict[str, Any] = {"pause": lambda: asyncio.sleep(0), "count": _count, "door": _door, **hooks.calls()}
    exec(compile(marked("some", _SOURCE, []), "some", "exec"), names)  # noqa: S102 - it stands above
    try:
        return await names["Some"]().story(fails), hooks.passed
    except KeyError as exc:
        return exc, hooks.passed


def test_every_await_has_a_point_before_it_and_one_after_it() -> None:
    points: list[Point] = []
    marked("some", _SOURCE, points)

    assert [(point.function, point.when, point.what) for point in points] == _POINTS


async def test_code_with_a_call_at_each_point_does_what_it_did_and_passes_them_in_order() -> None:
    story, passed = await _told(fails=False)

    assert story == ("in", [0, 2, 0])
    around = [6, 0, 1, 7]
    assert passed == [2, 3, 8, 9, *around, *around, 6, 4, 5, *(10, 0, 1, 11), 10, 12, 13, 14, 15]


async def test_an_exception_passes_the_points_on_its_way() -> None:
    error, passed = await _told(fails=True)

    assert isinstance(error, KeyError)
    assert passed[-4:] == [16, 17, 14, 15]


@pytest.mark.parametrize("part", PARTS)
def test_only_what_has_points_is_said_to_be_elsewhere(part: str) -> None:
    code = Code(part)

    assert {code.elsewhere(point) for point in code.points} - {None} == set(PARTS[part].elsewhere)
