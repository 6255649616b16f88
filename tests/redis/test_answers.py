"""Hearing how the calls end that an operator has made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from toolspan.codec import Codec, Limits
from toolspan.operate.answers import Answers
from toolspan.operate.stopping import finished

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.store import Connection
    from toolspan.testing import Recorder


async def test_who_is_stopped_while_a_call_is_made_does_not_wait_for_its_answer(
    settings: Settings, connection: Connection, recorder: Recorder
) -> None:
    made: list[str] = []

    async def make() -> str:
        await asyncio.sleep(0)
        return "call"

    async def main() -> None:
        codec = Codec(settings.keys, Limits())
        async with Answers(connection, settings.keys, codec, recorder.probe) as answers:
            running.cancel()
            made.append(await finished(make()))
            async for _ in answers.to(made, within=30):
                pass

    running = asyncio.create_task(main())
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 10)

    assert made == ["call"]
