"""append: one call, as it was given, with a deadline by Redis' clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.codec import MAX_FIELDS
from toolspan.errors import WrongTypeError
from toolspan.store import CallerStore

if TYPE_CHECKING:
    from tests.redis.stage import Stage
    from toolspan.store import Connection


@pytest.fixture
def caller(stage: Stage, connection: Connection) -> CallerStore:
    return CallerStore(connection, stage.keys, gateway_id="g", block_ms=20)


async def test_a_call_lies_in_the_stream_as_it_was_given(stage: Stage, caller: CallerStore) -> None:
    fields = [b"tool", b"echo", b"\xff", b"\x00", b"again", b"1", b"again", b"2"]
    entry_id = await caller.append(fields)

    assert await stage.call("XRANGE", stage.keys.calls, "-", "+") == [[entry_id.encode(), fields]]


async def test_a_timeout_becomes_a_deadline_by_redis_clock(stage: Stage, caller: CallerStore) -> None:
    before = await stage.now_ms()
    await caller.append(["tool", "echo"], timeout_ms=30_000)
    after = await stage.now_ms()

    [call] = await stage.entries(stage.keys.calls)
    assert before + 30_000 <= int(call["deadline"]) <= after + 30_000


async def test_an_append_that_is_refused_writes_nothing(stage: Stage, caller: CallerStore) -> None:
    await stage.call("SET", stage.keys.calls, "not a stream")
    before = await stage.everything()
    with pytest.raises(WrongTypeError):
        await caller.append(["tool", "echo"])

    assert await stage.everything() == before


@pytest.mark.parametrize("timeout_ms", [None, 30_000])
async def test_as_many_fields_can_be_written_as_the_codec_allows(
    stage: Stage, caller: CallerStore, timeout_ms: int | None
) -> None:
    await caller.append([part for number in range(MAX_FIELDS) for part in (f"x{number}", "")], timeout_ms=timeout_ms)

    [[_, fields]] = await stage.call("XRANGE", stage.keys.calls, "-", "+")
    assert len(fields) // 2 == MAX_FIELDS + (timeout_ms is not None)
