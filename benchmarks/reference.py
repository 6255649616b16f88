"""The bare loop that everything is measured against: what any worker on Redis Streams has to do, and nothing else."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import uvloop
from pydantic_core import from_json, to_json

from toolspan.settings import Settings
from toolspan.store import Connection

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.store import Redis

BATCH: Final = 100
SETTLE: Final = """
local settled = {}
for i = 3, #ARGV, 4 do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])[1]
  if held then
    redis.call('XADD', ARGV[i + 1], '*', 'v', '1', 'id', ARGV[i + 2], 'entry', ARGV[i], 'status', 'ok',
      'result', ARGV[i + 3], 'attempt', held[4], 'consumer', ARGV[2])
    settled[#settled + 1] = ARGV[i]
  end
end
redis.call('XACK', KEYS[1], ARGV[1], unpack(settled))
redis.call('XDEL', KEYS[1], unpack(settled))
return #settled
"""


async def drain(reader: Redis, writer: Redis, keys: Keys) -> None:
    """Read, run a no-op in a task per call under a semaphore, and settle in batches, for ever."""
    me = f"reference-{os.getpid()}"
    slots = asyncio.Semaphore(BATCH)
    outcomes: asyncio.Queue[tuple[bytes, bytes, bytes, bytes]] = asyncio.Queue()
    sha = await writer.script_load(SETTLE)

    async def call(entry_id: bytes, fields: list[bytes]) -> None:
        values = dict(zip(fields[::2], fields[1::2], strict=True))
        args = from_json(values[b"args"])
        result = await _echo(**args)
        outcomes.put_nowait((entry_id, values[b"reply_to"], values[b"id"], to_json(result)))

    async def settle() -> None:
        while True:
            batch = [await outcomes.get()]
            while len(batch) < BATCH and not outcomes.empty():
                batch.append(outcomes.get_nowait())
            parts: list[Any] = [part for outcome in batch for part in outcome]
            await writer.execute_command("EVALSHA", sha, 1, keys.calls, keys.group, me, *parts)
            for _ in batch:
                slots.release()

    settler = asyncio.create_task(settle())
    tasks: set[asyncio.Task[None]] = set()
    while not settler.done():
        answer: Any = await reader.execute_command(
            "XREADGROUP", "GROUP", keys.group, me, "COUNT", BATCH, "BLOCK", 1000, "STREAMS", keys.calls, ">"
        )
        for entry_id, fields in answer[0][1] if answer else ():
            await slots.acquire()
            task = asyncio.create_task(call(entry_id, fields))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    settler.result()


async def _echo(**args: Any) -> dict[str, Any]:
    return args


async def _main(settings: Settings) -> None:
    connection = Connection.to(settings.redis_url)
    await drain(connection.blocking(1000), connection.commands, settings.keys)


def main(processes: int = 1) -> None:
    """Drain until killed, in so many *processes*."""
    for _ in range(processes - 1):
        if not os.fork():
            break
    uvloop.run(_main(Settings()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
