"""Workers that are lost, as Redis shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.support.plane import Plane

_LONG_AGO_MS: Final = 3_600_000


async def lose(plane: Plane, consumer: str, *, attempts: int = 1) -> None:
    """Hand all that nobody has read to *consumer*, which was lost long ago, in the last of so many *attempts*."""
    redis, calls, group = plane.redis, plane.keys.calls, plane.keys.group
    if not await redis.exists(plane.keys.workers):
        await redis.execute_command("XGROUP", "CREATE", calls, group, "0", "MKSTREAM")
    await redis.execute_command("XREADGROUP", "GROUP", group, consumer, "STREAMS", calls, ">")
    for entry_id in await plane.pending(consumer):
        more = ("IDLE", _LONG_AGO_MS, "RETRYCOUNT", attempts, "JUSTID")
        await redis.execute_command("XCLAIM", calls, group, consumer, 0, entry_id, *more, parse_justid=True)
