"""What operators do with dead letters is counted and told, and what they only look at is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from tests.support.toolbox import echo
from toolspan.operate.control import Operator
from toolspan.operate.dead_letters import ALL, discard, find_now
from toolspan.operate.replays import Refused, Replayer
from toolspan.store import DeadLetterStore, Inspector
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings
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
            {
                "toolspan.dead_letter.id": found[0].id,
                "dlq.id": "1-1",
                "dlq.reason": "malformed",
                "messaging.client.id": "test",
                "messaging.message.id": "1-1",
                "messaging.message.conversation_id": "c",
                "gen_ai.tool.name": "echo",
            },
        ),
        ("toolspan.discard", {"toolspan.dead_letter.id": found[1].id, "messaging.client.id": "test"}),
    ]


async def test_what_is_asked_of_the_workers_is_told(plane: Plane, connection: Connection, recorder: Recorder) -> None:
    operator = Operator(connection, plane.keys, recorder.probe, who="ada")
    seconds, _ = await plane.redis.time()
    await plane.redis.zadd(plane.keys.workers, {"w": seconds * 1000})
    await operator.pause("echo", why="slow")
    await operator.pause("echo", why="twice")
    await operator.resume("echo", why="")
    await operator.drain("w", why="")
    await operator.drain("w", why="twice")
    await plane.redis.delete(plane.keys.control)

    assert recorder.events == [
        ("toolspan.pause", {"gen_ai.tool.name": "echo"}),
        ("toolspan.resume", {"gen_ai.tool.name": "echo"}),
        ("toolspan.drain", {"messaging.client.id": "w"}),
    ]


async def test_a_draining_worker_is_counted_apart(plane: Plane, connection: Connection, recorder: Recorder) -> None:
    seconds, _ = await plane.redis.time()
    await plane.redis.zadd(plane.keys.workers, {"a": seconds * 1000, "b": seconds * 1000, "c": 1})
    await Operator(connection, plane.keys, recorder.probe, who="ada").drain("a", why="")
    await plane.redis.xgroup_create(plane.keys.calls, plane.keys.group, "0", mkstream=True)
    found = await Inspector(connection, plane.keys).snapshot(lease_ms=60_000)
    recorder.probe.observe_group(lambda: found, lambda: 0.0)
    await plane.redis.delete(plane.keys.control)

    points = {attributes["toolspan.state"]: value for value, attributes in recorder.points("toolspan.workers")}
    assert points == {"draining": 1, "live": 1, "silent": 1}


async def test_a_call_that_is_held_back_counts_as_released_and_leaves_no_span(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    await plane.redis.hset(plane.keys.control, "pause:echo", '{"who":"ada","why":"","at":1}')
    async with running_worker(echo, settings=settings, probe=recorder.probe):
        entry_id = await plane.append("echo")

        async def waits() -> bool:
            return (await plane.pending()).get(entry_id) == ("~parked", 0)

        await eventually(waits, because="it waits")
        await eventually(lambda: recorder.total("toolspan.attempts", toolspan_outcome="released"), because="it counts")

    assert recorder.total("toolspan.attempts") == 1
    assert recorder.spans == ()
    # A heartbeat may have met it while it was held.
    await plane.redis.delete(plane.keys.calls, plane.keys.parked, plane.keys.attempts)
