"""What operators do with dead letters is counted and told, and what they only look at is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.operate.dead_letters import ALL, discard, find_now
from toolspan.operate.replays import Refused, Replayer
from toolspan.store import DeadLetterStore

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.store import Connection
    from toolspan.testing import Recorder


@pytest.fixture
def letters(plane: Plane, connection: Connection) -> DeadLetterStore:
    return DeadLetterStore(connection, plane.keys)


async def _bury(plane: Plane, reason: str) -> None:
    about = ["dlq.id", "1-1", "dlq.reason", reason, "dlq.error_type", "t", "dlq.error_message", "m"]
    about += ["dlq.consumer", "w", "dlq.at", "1", "dlq.fingerprint", "f"]
    call = ("v", "1", "id", "c", "tool", "echo", "args", "{}")
    await plane.redis.execute_command("XADD", plane.keys.dead_letters, "*", *call, *about)


async def test_each_replay_and_each_refusal_of_many_is_counted(
    plane: Plane, letters: DeadLetterStore, recorder: Recorder
) -> None:
    for reason in ("worker_lost", "malformed", "max_attempts"):
        await _bury(plane, reason)
    replayer = Replayer(letters, recorder.probe, codec=plane.codec, who="ada")
    rehearsed = [isinstance(one, Refused) async for one in replayer.rehearse(find_now(letters, ALL))]
    counted = recorder.total("toolspan.replays")
    done = [isinstance(one, Refused) async for one in replayer.replay(find_now(letters, ALL))]

    assert rehearsed == done == [False, True, False]
    assert counted == 0
    assert recorder.total("toolspan.replays", toolspan_outcome="replayed") == 2
    assert recorder.total("toolspan.replays", toolspan_outcome="refused") == 1
    assert [name for name, _ in recorder.events] == ["toolspan.replay"] * 2


async def test_a_discard_is_told_also_of_what_cannot_be_read(
    plane: Plane, letters: DeadLetterStore, recorder: Recorder
) -> None:
    await _bury(plane, "malformed")
    await plane.redis.execute_command("XADD", plane.keys.dead_letters, "*", "somebody", "else's")
    found = [entry async for entry in letters.entries()]
    for entry in found:
        assert await discard(letters, entry, recorder.probe, who="ada", why="old")

    assert recorder.events == [
        (
            "toolspan.discard",
            {"toolspan.dead_letter.id": found[0].id, "dlq.id": "1-1", "dlq.reason": "malformed"},
        ),
        ("toolspan.discard", {"toolspan.dead_letter.id": found[1].id}),
    ]
