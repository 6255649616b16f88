"""Reads the reply stream of a soak to its end, and counts by the second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from toolspan.codec import Codec, Limits

if TYPE_CHECKING:
    from tests.soak.ledger import Ledger
    from toolspan.keys import Keys

_TELL_SECONDS: Final = 60


class Hearer:
    """Tells the ledger of every reply, and keeps how many calls were answered in each second."""

    def __init__(self, url: str, keys: Keys, reply_to: str, ledger: Ledger) -> None:
        self._redis = redis.asyncio.Redis.from_url(url, socket_timeout=30)
        self._reply_to = reply_to
        self._ledger = ledger
        self._codec = Codec(keys, Limits())
        self.rates: list[int] = []

    async def hear(self) -> None:
        """Hear until cancelled."""
        last = "0"
        while True:
            try:
                answer: Any = await self._redis.execute_command(
                    "XREAD", "COUNT", 1_000, "BLOCK", 500, "STREAMS", self._reply_to, last
                )
                entries = _entries(answer)
                for entry_id, fields in entries:
                    self._ledger.heard(self._codec.decode_answer(fields))
                    last = entry_id
                if entries:
                    await self._redis.xtrim(self._reply_to, minid=last)
            except (RedisError, OSError):
                await asyncio.sleep(0.05)

    async def count(self) -> None:
        """Count until cancelled, and tell now and then how far it is."""
        before = 0
        while True:
            await asyncio.sleep(1)
            answered = self._ledger.answered
            self.rates.append(answered - before)
            before = answered
            if len(self.rates) % _TELL_SECONDS == 0:
                print(f"{answered} answered after {len(self.rates)} s", flush=True)  # noqa: T201

    async def aclose(self) -> None:
        """Close the connection."""
        await self._redis.aclose()


def _entries(answer: Any) -> list[tuple[str, list[bytes]]]:
    """Read an answer of XREAD, whose shape depends on the protocol."""
    if not answer:
        return []
    streams = answer.items() if isinstance(answer, dict) else answer
    found = []
    for _, entries in streams:
        for entry_id, fields in entries[0] if isinstance(answer, dict) else entries:
            pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=True)
            found.append((entry_id.decode(), [part for pair in pairs for part in pair]))
    return found
