"""Replies that wait to be fetched: bounded in number and in time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from toolspan.gateway.detached import Detached

if TYPE_CHECKING:
    from toolspan.model import Reply


async def test_the_oldest_is_let_go_for_a_newer_one() -> None:
    forgotten: list[str] = []
    detached = Detached(forgotten.append, seconds=60, kept=2)
    for name in ("a", "b", "c"):
        detached.add(name, f"{name}-0", _reply())

    assert forgotten == ["a"]
    assert detached.find("a") is None
    assert [found[0] for found in (detached.find("b"), detached.find("c")) if found] == ["b-0", "c-0"]


async def test_none_is_kept_beyond_its_time() -> None:
    forgotten: list[str] = []
    detached = Detached(forgotten.append, seconds=0)
    detached.add("a", "a-0", _reply())

    assert detached.find("a") is None
    assert forgotten == ["a"]


def _reply() -> asyncio.Future[Reply]:
    return asyncio.get_running_loop().create_future()
