"""Redis' clock, estimated between two looks at it: the only clock that all processes share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import redis.asyncio

_NS_PER_MS: Final = 1_000_000


async def redis_ms(client: redis.asyncio.Redis) -> int:
    """Ask for Redis' unix time in ms."""
    seconds, micros = await cast("Any", client.execute_command("TIME"))
    return int(seconds) * 1000 + int(micros) // 1000


class RedisClock:
    """Tells Redis' time without asking; right to within half the round trip of the last look."""

    def __init__(self) -> None:
        # Until the first look our own clock has to do.
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def set(self, now_ms: int, *, asked_ns: int, answered_ns: int) -> None:
        """Take a look at Redis' clock into account: it said *now_ms* between two moments of our monotonic clock."""
        # It was anywhere within its millisecond.
        self._offset_ns = now_ms * _NS_PER_MS + _NS_PER_MS // 2 - (asked_ns + answered_ns) // 2

    def at(self, monotonic_ns: int) -> int:
        """Redis' unix time in ms at a moment of our monotonic clock."""
        return (monotonic_ns + self._offset_ns) // _NS_PER_MS

    def now_ms(self) -> int:
        """Redis' unix time in ms."""
        return self.at(time.monotonic_ns())
