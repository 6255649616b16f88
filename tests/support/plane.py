"""One plane as the outside sees it: raw Redis, by PROTOCOL alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolspan.codec import Codec, Limits
from toolspan.model import Progress, Reply, ToolCall
from toolspan.store.dead_letters import DeadLetterStore

if TYPE_CHECKING:
    import redis.asyncio

    from toolspan.model import DeadLetter
    from toolspan.settings import Settings
    from toolspan.store import Connection


class Plane:
    """Appends calls and looks at what became of them."""

    def __init__(self, settings: Settings, redis: redis.asyncio.Redis, connection: Connection) -> None:
        self.settings = settings
        self.keys = settings.keys
        self.redis = redis
        self.codec = Codec(self.keys, Limits(settings.max_args_bytes, settings.max_reply_bytes, settings.max_nesting))
        self.reply_to = self.keys.replies("outside")
        self._letters = DeadLetterStore(connection, self.keys)
        self._decoded: dict[tuple[bytes, ...], Reply | Progress] = {}
        """Each answer that was seen, by its bytes: who waits for one sees all the others again and again."""

    async def append(self, tool: str, call_id: str = "", *, reply: bool = True, **args: Any) -> str:
        """Append a call as any producer would; with a reply stream unless *reply* is False."""
        return await self.add(*self.codec.encode_call(self.call(tool, call_id, reply=reply, **args)))

    def call(self, tool: str, call_id: str = "", *, reply: bool = True, **args: Any) -> ToolCall:
        """Make a call; its id is the tool's name if there is no other."""
        return ToolCall(call_id or tool, tool, args, reply_to=self.reply_to if reply else None)

    async def add(self, *fields: str | bytes) -> str:
        """Add an entry of any fields."""
        entry_id: bytes = await self.redis.execute_command("XADD", self.keys.calls, "*", *fields)
        return entry_id.decode()

    async def orphan(self, owner: str = "gone-1-0000") -> list[str]:
        """Hand all new entries to a worker that is never heard of, long ago; give their ids."""
        await self.redis.execute_command("XGROUP", "CREATE", self.keys.calls, self.keys.group, "0", "MKSTREAM")
        raw: Any = await self.redis.execute_command(
            "XREADGROUP", "GROUP", self.keys.group, owner, "STREAMS", self.keys.calls, ">"
        )
        ids = [entry_id for entry_id, _ in raw[0][1]]
        await self.redis.xclaim(self.keys.calls, self.keys.group, owner, 0, ids, idle=100_000, justid=True)
        return [entry_id.decode() for entry_id in ids]

    async def replies(self, reply_to: str | None = None) -> list[Reply]:
        """All replies so far."""
        return [found for found in await self._answers(reply_to) if isinstance(found, Reply)]

    async def progress(self, call_id: str) -> list[Progress]:
        """All progress of a call so far."""
        return [p for p in await self._answers() if isinstance(p, Progress) and p.call_id == call_id]

    async def _answers(self, reply_to: str | None = None) -> list[Reply | Progress]:
        raw: Any = await self.redis.execute_command("XRANGE", reply_to or self.reply_to, "-", "+")
        return [self._decode(tuple(fields)) for _, fields in raw]

    def _decode(self, fields: tuple[bytes, ...]) -> Reply | Progress:
        if fields not in self._decoded:
            self._decoded[fields] = self.codec.decode_answer(list(fields))
        return self._decoded[fields]

    async def reply(self, call_id: str) -> Reply | None:
        """The one reply to a call; None while there is none. Two are an error."""
        found = [reply for reply in await self.replies() if reply.call_id == call_id]
        assert len(found) < 2, f"two replies to {call_id}: {found}"
        return found[0] if found else None

    async def dead_letters(self) -> list[DeadLetter]:
        """All dead letters, oldest first."""
        return [letter async for letter in self._letters.all()]

    async def pending(self, consumer: str | None = None) -> dict[str, tuple[str, int]]:
        """What is pending: entry id to consumer and count of deliveries."""
        command = ["XPENDING", self.keys.calls, self.keys.group, "-", "+", 10_000]
        raw: Any = await self.redis.execute_command(*command, *([consumer] if consumer else []))
        return {entry_id.decode(): (owner.decode(), count) for entry_id, owner, _, count in raw}

    async def now_ms(self) -> int:
        """Redis' clock."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def left(self) -> int:
        """How many entries the stream still has."""
        return int(await self.redis.xlen(self.keys.calls))

    async def consumers(self) -> list[str]:
        """The names registered in the group."""
        raw: Any = await self.redis.execute_command("XINFO", "CONSUMERS", self.keys.calls, self.keys.group)
        return [info[1].decode() for info in raw]

    async def beating(self) -> list[str]:
        """The workers that have registered."""
        raw: Any = await self.redis.execute_command("ZRANGE", self.keys.workers, 0, -1)
        return [name.decode() for name in raw]
