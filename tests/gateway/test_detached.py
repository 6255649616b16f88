"""Replies that wait to be fetched: bounded in number and in time."""

from __future__ import annotations

import asyncio

from toolspan.gateway.answers import told
from toolspan.gateway.detached import Detached
from toolspan.model import Reply, Timings


async def test_the_oldest_is_let_go_for_a_newer_one() -> None:
    forgotten: list[str] = []
    detached = Detached(forgotten.append, told, seconds=60, kept=2)
    for name in ("a", "b", "c"):
        detached.add(name, f"{name}-0", _reply())

    assert forgotten == ["a"]
    assert detached.find("a") is None
    assert [found.entry_id for found in (detached.find("b"), detached.find("c")) if found] == ["b-0", "c-0"]


async def test_none_is_kept_beyond_its_time() -> None:
    forgotten: list[str] = []
    detached = Detached(forgotten.append, told, seconds=0)
    detached.add("a", "a-0", _reply())

    assert detached.find("a") is None
    assert forgotten == ["a"]


async def test_the_oldest_replies_are_let_go_where_all_are_too_large_together() -> None:
    forgotten: list[str] = []
    detached = Detached(forgotten.append, told, seconds=60, kept_bytes=2_500)
    open_calls = {name: _reply() for name in ("a", "b", "c", "open")}
    for name, reply in open_calls.items():
        detached.add(name, f"{name}-0", reply)
    # It is the reply that takes up room, not the call; and the oldest reply is that of b.
    for name in ("b", "a", "c"):
        open_calls[name].set_result(_of(name, result="x" * 1_000))
        await asyncio.sleep(0)

    assert forgotten == ["b"]
    assert detached.find("b") is None
    found = [detached.find(name) for name in ("a", "c", "open")]
    assert [call.answer is not None for call in found if call] == [True, True, False]


async def test_what_is_let_go_makes_room() -> None:
    detached = Detached(lambda _: None, told, seconds=60, kept=1, kept_bytes=2_500)
    for name in ("a", "b", "c", "d"):
        reply = _reply()
        detached.add(name, f"{name}-0", reply)
        reply.set_result(_of(name, result="x" * 1_500))
        await asyncio.sleep(0)

        assert (found := detached.find(name)) is not None
        assert found.answer is not None


def _of(call_id: str, *, result: str) -> Reply:
    return Reply(call_id, f"{call_id}-0", "ok", result, None, 1, "worker", Timings())


def _reply() -> asyncio.Future[Reply]:
    return asyncio.get_running_loop().create_future()
