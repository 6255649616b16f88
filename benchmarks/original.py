"""The design that ours replaces: a task for each call without a bound, XPENDING and XACK one by one.

Its loop, its order and its settings; the reply goes to a stream, where it had its callers wait.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import uvloop
from pydantic_core import from_json, to_json
from redis.asyncio import Redis

from toolspan.settings import Settings

if TYPE_CHECKING:
    from toolspan.keys import Keys

_ME: Final = "original"
_READ_AT_ONCE: Final = 10
_BLOCK_MS: Final = 4000
"""It had five seconds; the client library of today gives up after as many."""


async def consume(redis: Any, keys: Keys) -> None:
    """Read, and have each call handled by a task of its own, for ever."""
    active: set[asyncio.Task[None]] = set()

    async def handle(entry_id: bytes, raw: dict[bytes, bytes]) -> None:
        if not await redis.xpending_range(keys.calls, keys.group, entry_id, entry_id, 1):
            return
        result = await _echo(**from_json(raw[b"args"]))
        await redis.xadd(raw[b"reply_to"], {"v": "1", "id": raw[b"id"], "status": "ok", "result": to_json(result)})
        await redis.xack(keys.calls, keys.group, entry_id)

    while True:
        read = await redis.xreadgroup(keys.group, _ME, {keys.calls: ">"}, count=_READ_AT_ONCE, block=_BLOCK_MS)
        for _, entries in read or ():
            for entry_id, raw in entries:
                task = asyncio.create_task(handle(entry_id, raw))
                active.add(task)
                task.add_done_callback(active.discard)


async def _echo(**args: Any) -> dict[str, Any]:
    return args


async def _main(settings: Settings) -> None:
    await consume(Redis.from_url(settings.redis_url), settings.keys)


if __name__ == "__main__":
    uvloop.run(_main(Settings()))
