"""The bare caller: what anybody has to do who waits for a reply on a stream, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from typing import Any, Final

import uvloop

from benchmarks.pace import paced, tell
from toolspan.settings import Settings
from toolspan.store import Connection

REPLIES: Final = "bench:replies"


async def _main(rate: float, seconds: float) -> list[float | None]:
    settings = Settings()
    connection = Connection.to(settings.redis_url)
    sender, reader = connection.commands, connection.blocking(1000)
    waiting: dict[bytes, asyncio.Future[None]] = {}
    numbers = count()

    async def hear() -> None:
        last: bytes = b"0"
        while True:
            answer: Any = await reader.execute_command("XREAD", "BLOCK", 1000, "STREAMS", REPLIES, last)
            for entry_id, fields in answer[0][1] if answer else ():
                values = dict(zip(fields[::2], fields[1::2], strict=True))
                waiting.pop(values[b"id"]).set_result(None)
                last = entry_id

    async def call() -> None:
        call_id = str(next(numbers)).encode()
        waiting[call_id] = replied = asyncio.get_running_loop().create_future()
        await sender.execute_command(
            "XADD", settings.keys.calls, "*", "id", call_id, "args", '{"n":1}', "reply_to", REPLIES
        )
        await replied

    hearing = asyncio.create_task(hear())
    took = await paced(call, rate, seconds)
    hearing.cancel()
    return took


if __name__ == "__main__":
    tell(uvloop.run(_main(float(sys.argv[1]), float(sys.argv[2]))))
