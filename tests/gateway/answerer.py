"""A worker of a few lines that knows PROTOCOL and nothing of ours: what callers may rely on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import redis.asyncio

STREAM, GROUP = "{}:stream:tools", "{}:tools"


class Answerer:
    """Echoes arguments; fails as `error.<type>` says; answers `mute` never, and `held` once told to."""

    def __init__(self, redis: redis.asyncio.Redis, prefix: str) -> None:
        self.seen: list[dict[str, str]] = []
        self.ids: list[str] = []
        self.release = asyncio.Event()
        self._over = False
        self._redis = redis
        self._stream, self._group = STREAM.format(prefix), GROUP.format(prefix)

    async def __aenter__(self) -> Self:
        await self._redis.execute_command("XGROUP", "CREATE", self._stream, self._group, "0", "MKSTREAM")
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        self.release.set()
        await self._task

    def named(self, tool: str) -> list[dict[str, str]]:
        """The calls of *tool* so far, as the fields of their entries."""
        return [fields for fields in self.seen if fields["tool"] == tool]

    async def answer(self, fields: dict[str, str], entry_id: str, *, at: str = "*") -> None:
        """Write the reply to a call; *at* is its id in the reply stream."""
        kind = fields["tool"].removeprefix("error.")
        if kind == fields["tool"]:
            outcome = ["status", "ok", "result", fields["args"]]
        else:
            error = {"type": kind, "message": f"so {kind}", "retryable": False, "detail": None}
            outcome = ["status", "error", "error", json.dumps(error)]
        timings = json.dumps({"queue": 1.5, "execute": 2.25})
        reply = [
            "v",
            "1",
            "id",
            fields["id"],
            "entry",
            entry_id,
            *outcome,
            "attempt",
            "1",
            "consumer",
            "by-hand",
        ]
        await self._redis.execute_command("XADD", fields["reply_to"], at, *reply, "timings", timings)
        await self._redis.expire(fields["reply_to"], 60)

    async def _work(self) -> None:
        while not self._over:
            for entry_id, fields in await self._read():
                self.seen.append(fields)
                self.ids.append(entry_id)
                if fields["tool"] == "held":
                    await self.release.wait()
                if "reply_to" in fields and fields["tool"] != "mute":
                    await self.answer(fields, entry_id)
                await self._redis.xack(self._stream, self._group, entry_id)
                await self._redis.xdel(self._stream, entry_id)

    async def _read(self) -> list[tuple[str, dict[str, str]]]:
        command = ["XREADGROUP", "GROUP", self._group, "by-hand", "COUNT", "100", "BLOCK", "200"]
        found: Any = await self._redis.execute_command(*command, "STREAMS", self._stream, ">")
        entries = found[0][1] if found else []
        return [
            (entry_id.decode(), {k.decode(): v.decode() for k, v in zip(raw[::2], raw[1::2], strict=True)})
            for entry_id, raw in entries
        ]
