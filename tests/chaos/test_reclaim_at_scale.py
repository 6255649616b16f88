"""A worker dies that held ten thousand calls, beside a hundred thousand that are parked."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.conftest import server_names
from tests.support.eventually import eventually
from tests.support.kept import kept_running

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from tests.support.processes import Workers

ORPHANS: Final = 10_000
PARKED: Final = 100_000
AT_ONCE: Final = 2_500
WORKERS: Final = 3
LEASE_MS: Final = 5_000
PROMISED_MS: Final = 10_000

# Long enough that one worker cannot be through with all of them before the others' reads have ended.
_ARGUMENTS: Final = '{"seconds":0.05}'

# Calls that are held at once, so that nobody else is given one of them; parked, if there is a due time.
_HELD: Final = """
for n = ARGV[5], ARGV[5] + ARGV[3] - 1 do
  redis.call('XADD', KEYS[1], '*', 'v', 1, 'id', ARGV[2] .. n, 'tool', 'waits', 'args', ARGV[6], 'reply_to', KEYS[3])
end
local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
for _, entry in ipairs(ARGV[4] ~= '' and read[1][2] or {}) do
  redis.call('ZADD', KEYS[2], ARGV[4], entry[1])
end
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
"""


# On one server, the older one where both are here: what it takes does not depend on that.
@pytest.mark.parametrize("server_name", server_names()[-1:], indirect=True)
async def test_ten_thousand_orphans_are_taken_over_by_all_within_ten_seconds_after_their_lease(
    plane: Plane, workers: Workers
) -> None:
    settings = plane.settings.model_copy(update={"lease_ms": LEASE_MS})
    due_ms = await plane.now_ms() + 3_600_000
    most: Counter[str] = Counter()

    async def all_answered() -> bool:
        for consumer, held in (await _held(plane)).items():
            most[consumer] = max(most[consumer], held)
        return int(await plane.redis.xlen(plane.reply_to)) >= ORPHANS

    async with kept_running(workers, WORKERS, "--log-level", "error", settings=settings):
        await eventually(lambda: _are_there(plane), because="all workers register")
        await _hold(plane, "~parked", PARKED, due_ms)
        lost_ms = await _hold(plane, "gone-1-0000", ORPHANS) + LEASE_MS
        await eventually(all_answered, because="all orphans are taken over", within=60)
    held, due = await _held(plane), await plane.redis.zcount(plane.keys.parked, due_ms, due_ms)
    replies = await plane.replies()
    [[last, _]] = await plane.redis.execute_command("XREVRANGE", plane.reply_to, "+", "-", "COUNT", 1)
    # To delete so much in one step would keep the server for long.
    await plane.redis.unlink(plane.keys.calls, plane.keys.parked)

    assert Counter(reply.call_id for reply in replies) == {f"gone-1-0000{n}": 1 for n in range(1, ORPHANS + 1)}
    assert int(last.partition(b"-")[0]) - lost_ms <= PROMISED_MS
    # Who finds more than one claim takes calls the others, each takes only what it has room for, and Redis lets one
    # after the other claim: shares differ as the workers' speeds do, and twice the even share leaves room for that.
    shares = Counter(reply.consumer for reply in replies)
    assert len(shares) == WORKERS
    assert max(shares.values()) <= 2 * ORPHANS / WORKERS
    assert max(most[consumer] for consumer in shares) <= settings.concurrency
    assert held == {"~parked": PARKED}
    assert due == PARKED


async def _hold(plane: Plane, owner: str, count: int, due_ms: int | str = "") -> int:
    """Give Redis' time when the first of them were handed over."""
    keys = (plane.keys.calls, plane.keys.parked, plane.reply_to)
    times: list[Any] = [
        await plane.redis.execute_command(
            "EVAL", _HELD, len(keys), *keys, plane.keys.group, owner, AT_ONCE, due_ms, first, _ARGUMENTS
        )
        for first in range(1, count, AT_ONCE)
    ]
    return int(times[0])


async def _held(plane: Plane) -> dict[str, int]:
    _, _, _, consumers = await plane.redis.execute_command("XPENDING", plane.keys.calls, plane.keys.group)
    return {consumer.decode(): int(count) for consumer, count in consumers or ()}


async def _are_there(plane: Plane) -> bool:
    return len(await plane.beating()) == WORKERS
