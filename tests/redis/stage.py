"""Puts entries into the state that a step begins with, and tells all that lies in Redis afterwards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from toolspan.codec import Form
from toolspan.store import StreamStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.plane import Plane
    from toolspan.store import Connection

CALL: Final = ("v", "1", "id", "c1", "tool", "echo", "args", "{}")

LOST: Final = ("another owner", "another attempt", "settled")
"""How an entry can stop being ours; see `Stage.lose`."""


def filled(*fields: str | bytes) -> tuple[Form, Sequence[str | bytes]]:
    """Names and values of a reply as a settlement has them, as if it had nothing but names in common with any other."""
    names = [name if isinstance(name, str) else name.decode() for name in fields[::2]]
    return Form(*(part for name in names for part in (name, None))), fields[1::2]


class Stage:
    """One plane with its group, in which a test plays all the parts but the one it looks at."""

    def __init__(self, plane: Plane, connection: Connection) -> None:
        self.plane = plane
        self.keys = plane.keys
        self.redis = plane.redis
        self.reply_to = plane.reply_to
        self._connection = connection

    def store(self, me: str = "me", *, block_ms: int = 20, reply_maxlen: int = 100_000) -> StreamStore:
        """What the consumer *me* may do."""
        return StreamStore(
            self._connection,
            self.keys,
            me=me,
            block_ms=block_ms,
            registration_ttl_ms=60_000,
            reply_ttl_seconds=600,
            reply_maxlen=reply_maxlen,
        )

    async def call(self, *command: Any) -> Any:
        """Send one command; its answer comes as Redis sent it."""
        return await cast("Any", self.redis.execute_command(*command))

    async def now_ms(self) -> int:
        """Redis' clock."""
        seconds, micros = await self.call("EVAL", "return redis.call('TIME')", 0)
        return int(seconds) * 1000 + int(micros) // 1000

    # ── before ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def held(
        self, owner: str | bytes = "me", *, attempt: int = 1, idle_ms: int = 0, fields: tuple[str | bytes, ...] = CALL
    ) -> str:
        """Add an entry that *owner* holds."""
        entry_id = await self.plane.add(*fields)
        await self.hold(entry_id, owner, attempt=attempt, idle_ms=idle_ms)
        return entry_id

    async def hold(self, entry_id: str, owner: str | bytes, *, attempt: int = 1, idle_ms: int = 0) -> None:
        """Have *owner* hold an entry, as if delivered *idle_ms* ago."""
        await self.hold_all([entry_id], owner, attempt=attempt, idle_ms=idle_ms)

    async def hold_all(self, entry_ids: list[str], owner: str | bytes, *, attempt: int = 1, idle_ms: int = 0) -> None:
        """Have *owner* hold entries, as if all were delivered *idle_ms* ago."""
        await cast("Any", self.redis.execute_command(
            "XCLAIM", self.keys.calls, self.keys.group, owner, 0, *entry_ids,
            "IDLE", idle_ms, "RETRYCOUNT", attempt, "FORCE", "JUSTID", "LASTID", entry_ids[-1], parse_justid=True,
        ))  # fmt: skip

    async def parked(self, *, attempt: int = 1, due_ms: int = 1, fields: tuple[str | bytes, ...] = CALL) -> str:
        """Add an entry that is parked until *due_ms*."""
        entry_id = await self.held("~parked", attempt=attempt, fields=fields)
        await self.call("ZADD", self.keys.parked, due_ms, entry_id)
        return entry_id

    async def lose(self, entry_id: str, how: str) -> None:
        """Take an entry from *me*, who holds its first attempt, in one of the ways of LOST."""
        if how == "another owner":
            await self.hold(entry_id, "other")
        elif how == "another attempt":
            await self.hold(entry_id, "me", attempt=2)
        else:
            await self.call("XACK", self.keys.calls, self.keys.group, entry_id)
            await self.delete_body(entry_id)

    async def delete_body(self, entry_id: str) -> None:
        """Do what somebody with redis-cli does who wants to help."""
        await self.call("XDEL", self.keys.calls, entry_id)

    async def recreate_group(self) -> None:
        """Forget all that was delivered."""
        await self.call("XGROUP", "DESTROY", self.keys.calls, self.keys.group)
        await self.call("XGROUP", "CREATE", self.keys.calls, self.keys.group, "0")

    async def pass_by(self, entry_id: str, how: str) -> None:
        """Take an entry that is held from everybody, though its body lies there: it is never handed out again."""
        if how == "acknowledged by hand":
            await self.call("XACK", self.keys.calls, self.keys.group, entry_id)
        else:
            await self.call("XGROUP", "DESTROY", self.keys.calls, self.keys.group)
            await self.call("XGROUP", "CREATE", self.keys.calls, self.keys.group, "$")

    async def note(self, entry_id: str, *attempts: dict[str, Any]) -> None:
        """Put attempts on record."""
        await self.call("HSET", self.keys.attempts, entry_id, json.dumps(attempts))

    async def mark(self, entry_id: str) -> None:
        """Mark an entry as begun by another start, never to be begun again."""
        await self.call("HSET", self.keys.attempts, f"{entry_id}:mark", "another")

    async def beats(self, consumer: str, *, ago_ms: int = 0) -> None:
        """Write a heartbeat of *consumer*."""
        await self.call("ZADD", self.keys.workers, await self.now_ms() - ago_ms, consumer)

    async def works(self, consumer: str, **load: Any) -> None:
        """Write what a heartbeat of *consumer* tells of its load."""
        await self.call("HSET", self.keys.worker(consumer), "load", json.dumps(load))
        await self.call("PEXPIRE", self.keys.worker(consumer), 60_000)

    # ── after ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def attempts(self, entry_id: str) -> list[dict[str, Any]]:
        """What is on record of an entry."""
        raw = await self.call("HGET", self.keys.attempts, entry_id)
        return cast("list[dict[str, Any]]", json.loads(raw)) if raw else []

    async def entries(self, key: str) -> list[dict[str, str]]:
        """The entries of a stream, each as a dict."""
        return [_dict(fields) for _, fields in await self.call("XRANGE", key, "-", "+")]

    async def events(self) -> list[dict[str, str]]:
        """The exceptional steps so far, without their times."""
        return [
            {name: value for name, value in e.items() if name != "at"} for e in await self.entries(self.keys.events)
        ]

    async def idle_ms(self, entry_id: str) -> int:
        """How long ago an entry was delivered or renewed."""
        found = await self.call("XPENDING", self.keys.calls, self.keys.group, entry_id, entry_id, 1)
        return int(found[0][2])

    async def fields(self, key: str) -> dict[str, str]:
        """A hash."""
        return _dict([part for pair in (await self.call("HGETALL", key)).items() for part in pair])

    async def everything(self) -> dict[str, Any]:
        """All that lies in Redis, down to who holds what since when: equal before and after if nothing was written."""
        keys = sorted([key async for key in self.redis.scan_iter(match=f"{self.keys.prefix}:*")])
        return {key.decode(): await self._content(key) for key in keys}

    async def _content(self, key: bytes) -> Any:
        ask = {
            b"stream": ("XINFO", "STREAM", key, "FULL", "COUNT", 0),
            b"hash": ("HGETALL", key),
            b"zset": ("ZRANGE", key, 0, -1, "WITHSCORES"),
            b"set": ("SMEMBERS", key),
            b"string": ("GET", key),
        }[await self.call("TYPE", key)]
        return await self.call("PEXPIRETIME", key), await self.call(*ask)


def _dict(fields: list[bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in zip(fields[::2], fields[1::2], strict=True)}
