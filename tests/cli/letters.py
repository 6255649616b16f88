"""Dead letters as PROTOCOL has them, and what operators did with them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.plane import Plane

ATTEMPTS = '[{"consumer":"w-1-aa","attempt":1,"start":1000,"end":2000,"error":"worker_lost"}]'


async def bury(
    plane: Plane,
    *fields: str | bytes,
    letter_id: str = "*",
    reason: str = "worker_lost",
    message: str = "its worker was lost",
    **about: str,
) -> str:
    """Write a dead letter as PROTOCOL says; give its id."""
    said = {
        "id": "1-1",
        "reason": reason,
        "error_type": "quarantined",
        "error_message": message,
        "attempts": ATTEMPTS,
        "consumer": "w-1-aa",
        "at": str(time.time_ns() // 1_000_000),
        "fingerprint": "f" * 16,
        **about,
    }
    original = fields or ("v", "1", "id", "c1", "tool", "echo", "args", '{"text":"x"}', "reply_to", plane.reply_to)
    return await add(plane, *original, *about_fields(said), letter_id=letter_id)


def about_fields(said: dict[str, str]) -> list[str]:
    """Name what is said of a dead letter as its fields are named."""
    return [part for name, value in said.items() for part in (f"dlq.{name}", value)]


async def add(plane: Plane, *fields: str | bytes, letter_id: str = "*") -> str:
    """Put any entry among the dead letters; give its id."""
    written: bytes = await plane.redis.execute_command("XADD", plane.keys.dead_letters, letter_id, *fields)
    return written.decode()


async def fill(plane: Plane, count: int, *fields: str | bytes, letter_id: str = "") -> None:
    """Write *count* dead letters of one kind, with ids that begin with *letter_id* where that is given."""
    first = await bury(plane, *fields)
    await plane.redis.execute_command("EVAL", _COPIES, 1, plane.keys.dead_letters, count, letter_id, first)


async def audit(plane: Plane) -> list[dict[str, str]]:
    """What stands in the audit stream."""
    raw: Any = await plane.redis.execute_command("XRANGE", plane.keys.audit, "-", "+")
    told = [[part.decode() for part in fields] for _, fields in raw]
    return [dict(zip(one[::2], one[1::2], strict=True)) for one in told]


async def ids(plane: Plane) -> list[str]:
    """The dead letters that can be read."""
    return [letter.id for letter in await plane.dead_letters()]


async def calls(plane: Plane) -> list[dict[str, str]]:
    """The calls that wait, each with its `entry`."""
    raw: Any = await plane.redis.execute_command("XRANGE", plane.keys.calls, "-", "+")
    told = [["entry", entry_id.decode(), *(part.decode() for part in fields)] for entry_id, fields in raw]
    return [dict(zip(one[::2], one[1::2], strict=True)) for one in told]


# The first one makes room for ids that are lower than its own.
_COPIES = """
local fields = redis.call('XRANGE', KEYS[1], ARGV[3], ARGV[3])[1][2]
if ARGV[2] ~= '' then redis.call('DEL', KEYS[1]) else redis.call('XDEL', KEYS[1], ARGV[3]) end
for i = 1, ARGV[1] do
  redis.call('XADD', KEYS[1], ARGV[2] ~= '' and ARGV[2] .. '-' .. i or '*', unpack(fields))
end
"""
