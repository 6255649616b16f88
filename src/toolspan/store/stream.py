"""The hot path: what workers do to the stream of tool calls, one atomic step each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from toolspan.store.clock import redis_ms
from toolspan.store.connection import answer_of, translated
from toolspan.store.holding import Holding
from toolspan.store.taking import Taking
from toolspan.store.upkeep import Upkeep

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.store.connection import Connection


class StreamStore(Taking, Holding, Upkeep):
    """What one consumer of the group may do. Every method raises StoreError, and nothing else of Redis."""

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        *,
        me: str,
        block_ms: int,
        registration_ttl_ms: int,
        reply_ttl_seconds: int,
        reply_maxlen: int,
        wait_replicas: int = 0,
    ) -> None:
        Taking.__init__(self, connection, keys, me=me, block_ms=block_ms, wait_replicas=wait_replicas)
        Holding.__init__(
            self,
            connection,
            keys,
            me=me,
            registration_ttl_ms=registration_ttl_ms,
            reply_ttl_seconds=reply_ttl_seconds,
            reply_maxlen=reply_maxlen,
            wait_replicas=wait_replicas,
        )
        Upkeep.__init__(self, connection, keys)

    async def ensure_group(self) -> bool:
        """Create the group, and the stream with it, if it is missing; tell whether it was."""
        with translated():
            try:
                await answer_of(self._redis.execute_command(
                    "XGROUP CREATE", self._keys.calls, self._keys.group, "0", "MKSTREAM"
                ))  # fmt: skip
            except ResponseError as exc:
                if str(exc).startswith("BUSYGROUP"):
                    return False
                raise
        return True

    async def synchronise(self) -> None:
        """Set our estimate of Redis' clock."""
        with translated():
            sent_ns = time.monotonic_ns()
            now_ms = await redis_ms(self._redis)
        self.clock.set(now_ms, asked_ns=sent_ns, answered_ns=time.monotonic_ns())
