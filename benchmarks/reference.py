"""The bare loop that everything is measured against: what any worker on Redis Streams has to do, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.store import Redis

BATCH: Final = 100
SETTLE: Final = """
local settled = {}
for i = 3, #ARGV, 3 do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
  if held then
    redis.call('XADD', ARGV[i + 1], '*', 'id', ARGV[i], 'status', 'ok', 'result', ARGV[i + 2])
    settled[#settled + 1] = ARGV[i]
  end
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(settled))
redis.call('XDEL', KEYS[1], unpack(settled))
return #settled
"""


async def drain(redis: Redis, keys: Keys, *, count: int) -> None:
    """Read, run a no-op in a task per call under a semaphore, and settle in batches, until *count* calls are done."""
    me = "reference"
    slots = asyncio.Semaphore(BATCH)
    outcomes: asyncio.Queue[tuple[bytes, bytes, bytes]] = asyncio.Queue()
    sha = await redis.script_load(SETTLE)

    async def call(entry_id: bytes, fields: list[bytes]) -> None:
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        args = from_json(values[b"args"])
        result = await _echo(**args)
        outcomes.put_nowait((entry_id, values[b"reply_to"], to_json(result)))

    async def settle() -> None:
        done = 0
        while done < count:
            batch = [await outcomes.get()]
            while len(batch) < BATCH and not outcomes.empty():
                batch.append(outcomes.get_nowait())
            parts: list[Any] = [part for entry_id, reply_to, result in batch for part in (entry_id, reply_to, result)]
            await redis.execute_command("EVALSHA", sha, 1, keys.calls, keys.group, me, *parts)
            done += len(batch)
            for _ in batch:
                slots.release()

    settler = asyncio.create_task(settle())
    taken = 0
    tasks: set[asyncio.Task[None]] = set()
    while taken < count:
        answer: Any = await redis.execute_command(
            "XREADGROUP", "GROUP", keys.group, me, "COUNT", BATCH, "BLOCK", 1000, "STREAMS", keys.calls, ">"
        )
        for entry_id, fields in answer[0][1] if answer else ():
            await slots.acquire()
            task = asyncio.create_task(call(entry_id, fields))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            taken += 1
    await settler


async def _echo(**args: Any) -> dict[str, Any]:
    return args
