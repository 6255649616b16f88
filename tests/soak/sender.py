"""Sends the calls of a soak, each in the way of its kind; whatever Redis refuses is sent again."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import RedisError

from tests.soak.ledger import arguments
from toolspan.codec import Codec, Limits, once_key
from toolspan.errors import StoreError, StoreUnavailableError
from toolspan.keys import Keys
from toolspan.model import ToolCall
from toolspan.store import CallerStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.soak.ledger import Ledger
    from toolspan.settings import Settings
    from toolspan.store import Connection

T = TypeVar("T")

BACKLOG: Final = 1_000
AT_ONCE: Final = 100
OTHER_STREAM: Final = "batch"
STUCK_SECONDS: Final = 180.0
_PAUSE_SECONDS: Final = 0.05
_KEY_MS: Final = 600_000
_SINGLY: Final = {"keyed", "brief"}


class StuckError(Exception):
    """Nothing has moved for long, and nothing is going to."""


class Sender:
    """Appends what the ledger says; replies go to the stream *reply_to*."""

    def __init__(self, redis: Any, connection: Connection, ledger: Ledger, settings: Settings) -> None:
        self.keys = settings.keys
        self.other = Keys(self.keys.prefix, OTHER_STREAM)
        self.reply_to = self.keys.replies("soak")
        self._redis = redis
        self._ledger = ledger
        self._codec = Codec(self.keys, Limits())
        self._store = CallerStore(connection, self.keys, gateway_id="soak", block_ms=500)
        self._chance = random.Random(ledger.seed)

    async def send_all(self, calls: range) -> None:
        """Send *calls*; at no time do many more wait than the fleet holds."""
        async with asyncio.TaskGroup() as group:
            for first in range(0, len(calls), AT_ONCE):
                await self.until_fewer_than(BACKLOG)
                numbers = calls[first : first + AT_ONCE]
                for n in numbers:
                    if self._ledger.tool(n) in _SINGLY:
                        group.create_task(self._send_one(n), name=str(n))
                await self._send([n for n in numbers if self._ledger.tool(n) not in _SINGLY])
                for n in numbers:
                    if self._ledger.tool(n) == "given_up":
                        group.create_task(self._give_up(n), name=str(n))

    async def until_fewer_than(self, count: int) -> None:
        """Wait until fewer than *count* calls are open.

        Raises:
            StuckError: if their number has not changed for long.
        """
        loop = asyncio.get_running_loop()
        moved, last = loop.time(), -1
        while loop.time() - moved < STUCK_SECONDS:
            with suppress(RedisError, OSError):
                left = await self._redis.xlen(self.keys.calls) + await self._redis.xlen(self.other.calls)
                if left < count:
                    return
                if left != last:
                    moved, last = loop.time(), left
            await asyncio.sleep(_PAUSE_SECONDS)
        message = f"{last} calls are open, and none has ended for {STUCK_SECONDS:g} s"
        raise StuckError(message)

    def _call(self, n: int, *, again: bool = False) -> ToolCall:
        tool = self._ledger.tool(n)
        return ToolCall(
            f"{n}-again" if again else str(n),
            tool,
            arguments(n),
            reply_to=None if tool == "unheard" else self.reply_to,
            idem=str(n) if tool == "keyed" else None,
        )

    async def _send(self, numbers: list[int]) -> None:
        """Append calls; what was refused is sent again, what was not answered is not."""
        while numbers:
            pipeline = self._redis.pipeline(transaction=False)
            for n in numbers:
                keys = self.other if self._ledger.tool(n) == "elsewhere" else self.keys
                pipeline.execute_command("XADD", keys.calls, "*", *self._codec.encode_call(self._call(n)))
            try:
                answers = await pipeline.execute(raise_on_error=False)
            except (RedisError, OSError):
                self._ledger.unsure.update(numbers)
                await asyncio.sleep(_PAUSE_SECONDS)
                return
            numbers = [n for n, answer in zip(numbers, answers, strict=True) if isinstance(answer, RedisError)]
            if numbers:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _send_one(self, n: int) -> None:
        if self._ledger.tool(n) == "brief":
            await self._send_with_deadline(n)
            return
        await self._until_done(lambda: self._append_once(n))
        await asyncio.sleep(self._chance.uniform(0, 1))
        self._ledger.joined(n, await self._until_done(lambda: self._append_once(n, again=True)))

    async def _append_once(self, n: int, *, again: bool = False) -> Any:
        call = self._call(n, again=again)
        key = once_key(call)
        assert key is not None
        return await self._store.append_once(
            self._codec.encode_call(call), timeout_ms=_KEY_MS, call_id=call.id, key=key
        )

    async def _send_with_deadline(self, n: int) -> None:
        fields = self._codec.encode_call(self._call(n))
        while True:
            try:
                await self._store.append(fields, timeout_ms=100 + n % 200)
            except StoreUnavailableError as exc:
                if exc.maybe_ran:
                    self._ledger.unsure.add(n)
                    return
            except StoreError:
                pass
            else:
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _give_up(self, n: int) -> None:
        await asyncio.sleep(self._chance.uniform(0, 1))
        await self._until_done(lambda: self._store.cancel(str(n), ttl_ms=_KEY_MS))

    async def _until_done(self, step: Callable[[], Awaitable[T]]) -> T:
        """Take a step that may be taken twice, until Redis has said that it was."""
        while True:
            try:
                return await step()
            except StoreError:
                await asyncio.sleep(_PAUSE_SECONDS)
