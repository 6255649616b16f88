"""What limits of a tool for the whole fleet are in Redis: who may begin, and whose turn comes sooner than was said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from toolspan.model import value
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.store.clock import RedisClock
    from toolspan.store.connection import Connection


@value
class Admitted:
    """The first *count* of those who asked may begin. *again_ms*: until the rate lets the next one; None: unknown."""

    count: int
    again_ms: int | None


class LimitStore:
    """Asks for the runs of one worker. Every method raises StoreError, and nothing else of Redis."""

    def __init__(self, connection: Connection, keys: Keys, *, me: str, clock: RedisClock, lease_ms: int) -> None:
        self._redis = connection.commands
        self._keys = keys
        self._me = me
        self._clock = clock
        self._lease_ms = lease_ms
        self._admit = Script("admit")

    async def admit(
        self,
        tool: str,
        *,
        max_concurrency: int | None,
        rate: float | None,
        ended: Sequence[str] = (),
        waiting: Sequence[str] = (),
    ) -> Admitted:
        """Give back the slots of the entries that have *ended*, and ask for those that are *waiting*, in their order.

        May be asked again after a lost answer: what has its slot already is not counted twice.
        """
        with translated():
            count, again_ms = await self._admit.run(
                self._redis,
                stream=self._keys.calls,
                slots=self._keys.slots(tool),
                bucket=self._keys.rate(tool),
                group=self._keys.group,
                limit=max_concurrency or 0,
                rate=rate or 0,
                lease_ms=self._lease_ms,
                ended=len(ended),
                runs=[run_of(self._me, entry_id) for entry_id in (*ended, *waiting)],
            )
        return Admitted(count, None if again_ms < 0 else again_ms)

    async def hasten(self, entry_ids: Sequence[str]) -> int:
        """Make those of the entries due now that are parked until later, and tell how many were."""
        due = [part for entry_id in entry_ids for part in (self._clock.now_ms(), entry_id)]
        with translated():
            return int(
                await cast("Any", self._redis.execute_command("ZADD", self._keys.parked, "XX", "LT", "CH", *due))
            )


def run_of(consumer: str, entry_id: str) -> str:
    """Name the run of an entry: two workers that both run it, for one has lost its lease, take a slot each."""
    return f"{consumer}/{entry_id}"
