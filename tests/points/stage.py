"""One plane on which a worker dies: the calls on it, and what was promised of each."""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from tests.support.plane import Plane
from tests.support.runs import starts
from toolspan.errors import StoreError
from toolspan.store.callers import CallerStore
from toolspan.store.control import ControlStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis.asyncio

    from tests.points.code import Code
    from tests.points.nest import Child
    from toolspan.settings import Settings
    from toolspan.store import Connection

OK: Final = "ok"
GONE: Final = "gone-1-0000"
"""A worker that died long ago."""

_FILES: Final = ("path", "release", "seen")
_LOOK_SECONDS: Final = 0.04
_SIGHT_SECONDS: Final = 30.0
"""How long the worker may take to get to where a scenario wants it, before the scenario goes on without that."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One call, and which ends it may have: `ok`, types of errors, or reasons of dead letters where no reply is."""

    call_id: str
    entry_id: str
    ends: frozenset[str]
    replied: bool
    once: bool


class Stage:
    """Appends calls, and sees from outside what becomes of them."""

    def __init__(
        self, settings: Settings, raw: redis.asyncio.Redis, connection: Connection, folder: Path, code: Code
    ) -> None:
        self.plane = Plane(settings, raw, connection)
        self.settings = settings
        self.redis = raw
        self.connection = connection
        self.folder = folder
        self._code = code
        self.promises: list[Promise] = []
        self.workers: list[Child] = []
        """The one that dies, and those that come after it."""
        self.control = ControlStore(connection, settings.keys)
        folder.mkdir()

    async def call(
        self,
        tool: str,
        call_id: str,
        *,
        ends: tuple[str, ...] = (OK,),
        reply: bool = True,
        replied: bool = True,
        deadline_ms: int | None = None,
        version: int = 1,
        **args: Any,
    ) -> str:
        """Append a call that may have one of these *ends*; not *replied*: it wants a reply that cannot be written.

        Files among *args* are made names of this stage's own.
        """
        args = {name: str(self.file(value)) if name in _FILES else value for name, value in args.items()}
        call = self.plane.call(tool, call_id, reply=reply, **args)
        if deadline_ms is not None:
            call = replace(call, deadline_ms=await self.plane.now_ms() + deadline_ms)
        fields = self.plane.codec.encode_call(call)
        fields[1] = str(version)
        return await self.entry(
            *fields, call_id=call_id, ends=ends, replied=reply and replied, once=tool.endswith("once")
        )

    async def entry(
        self, *fields: str | bytes, call_id: str, ends: tuple[str, ...], replied: bool = True, once: bool = False
    ) -> str:
        """Append any entry."""
        entry_id = await self.plane.add(*fields)
        self.promises.append(Promise(call_id, entry_id, frozenset(ends), replied, once))
        return entry_id

    async def tried(self, attempts: int, *entry_ids: str) -> None:
        """Let calls of the worker that is gone have had so many attempts."""
        keys = self.plane.keys
        ids: tuple[Any, ...] = entry_ids
        await self.redis.xclaim(keys.calls, keys.group, GONE, 0, ids, idle=100_000, retrycount=attempts, justid=True)

    def file(self, name: str) -> Path:
        return self.folder / name

    def release(self, *names: str) -> None:
        for name in names:
            self.file(name).touch()

    def starts(self, name: str) -> int:
        return starts(self.file(name))

    @property
    def worker(self) -> Child:
        """The one that dies."""
        return self.workers[0]

    async def sees(
        self, condition: Callable[[], Any], *, of: Child | None = None, within: float = _SIGHT_SECONDS
    ) -> bool:
        """Wait until the worker is where it should be; one that died on the way, or goes another, gets nowhere."""
        worker = of or self.worker
        deadline = time.monotonic() + within
        while not worker.ended.done() and time.monotonic() < deadline:
            found = condition()
            if await found if inspect.isawaitable(found) else found:
                return True
            # Many look at once, and what they look at costs the workers that they wait for their turn.
            await asyncio.wait({worker.ended}, timeout=_LOOK_SECONDS)
        return False

    async def began(self, *names: str) -> None:
        """Wait until the tools that mark these files run."""
        await self.sees(lambda: all(map(self.starts, names)))

    async def says(self, text: str, times: int = 1) -> None:
        """Wait until the worker's lines have *text*, so many times."""
        await self.sees(lambda: self.worker.log.read_text().count(text) >= times)

    def was_at(self, function: str, what: str = "") -> bool:
        """Whether the worker was at some point of *function*, at *what* if that is said."""
        points = (self._code.points[place // 2] for place, _ in self.worker.visited())
        return any(point.function == function and what in point.what for point in points)

    async def over(self) -> bool:
        """Whether every call has its end, and what was deleted under way is nobody's any more."""
        if await self.plane.left():
            return False
        try:
            return not await self.plane.pending()
        except ResponseError:
            # There is no group: it was lost, or has not been made yet.
            return True

    async def gives_up(self, *call_ids: str) -> None:
        """Have calls given up, as their callers would."""
        entry_of = {one.call_id: one.entry_id for one in self.promises}
        store = CallerStore(self.connection, self.settings.keys, gateway_id="outside", block_ms=100)
        for call_id in call_ids:
            await store.cancel(call_id, ttl_ms=60_000, entry_id=entry_of[call_id])

    async def pause(self, tool: str) -> None:
        await self.control.pause(tool, who="the test", why="")

    async def resume(self, tool: str) -> None:
        await self.control.resume(tool, who="the test", why="")
        with suppress(StoreError):
            await self.control.hasten(tool)

    async def clear(self) -> None:
        """Delete the whole plane."""
        keys = [key async for key in self.redis.scan_iter(f"{self.settings.prefix}:*", count=1_000)]
        if keys:
            await self.redis.delete(*keys)
