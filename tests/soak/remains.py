"""What a plane must not keep once its calls have ended, by what Redis shows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from toolspan.keys import Keys

_PERMANENT: Final = {"stream", "dlq", "events", "streams", "audit", "workers"}
"""What has no time to live: see PROTOCOL, keys."""

_LOOK_SECONDS: Final = 0.2


async def remains(redis: Any, streams: list[Keys], *, workers: bool) -> dict[str, Any]:
    """Say what is left; *workers* says whether some are there still, so that their registrations may be."""
    left: dict[str, Any] = {}
    for keys in streams:
        left[f"entries of {keys.stream}"] = await redis.xlen(keys.calls)
        for group in await redis.xinfo_groups(keys.calls):
            left[f"pending of {keys.stream}"] = group["pending"]
        beating = set(await redis.zrange(keys.workers, 0, -1))
        consumers = {info["name"] for info in await redis.xinfo_consumers(keys.calls, keys.group)}
        left[f"consumers of {keys.stream}"] = consumers - beating if workers else consumers | beating
    prefix = streams[0].prefix
    for key in [key async for key in redis.scan_iter(f"{prefix}:*")]:
        kind = key.decode().split(":")[1]
        if kind not in _PERMANENT and await redis.ttl(key) == -1:
            left[f"{kind} without a time to live"] = key
        if kind == "slots" and await redis.zcard(key):
            left[f"slots of {key.decode()}"] = await redis.zcard(key)
    return {what: found for what, found in left.items() if found}


async def remains_at_last(redis: Any, streams: list[Keys], *, within: float) -> dict[str, Any]:
    """Say what is left with workers still there, after those that died could have been reaped."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    left = await remains(redis, streams, workers=True)
    while left and loop.time() - began < within:
        await asyncio.sleep(_LOOK_SECONDS)
        left = await remains(redis, streams, workers=True)
    return left
