"""Calls with an idempotency key: sent until Redis has them, or joined where somebody has sent them before."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

from toolspan.codec import is_one_line, once_key
from toolspan.errors import InvalidArguments, StoreError, StoreUnavailableError
from toolspan.gateway.endings import Sending, no_reply, unavailable
from toolspan.gateway.listener import Listener
from toolspan.model import Failed, Remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.gateway.replies import Replies
    from toolspan.keys import Keys
    from toolspan.model import OnceKey, Reply, ToolCall
    from toolspan.store import CallerStore
    from toolspan.telemetry.callers import Calling

MAX_KEY_CHARS: Final = 256
_LOOK_SECONDS: Final = 5.0
"""After how long somebody who has heard nothing looks again: a message may be lost without a trace."""

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0
_NOT_SHARED: Final = frozenset({"cancelled", "deadline_exceeded"})
"""Ends that were the first caller's wish: whoever joined his call has not given up, and has it run again."""


class OnceCalls:
    """What a client does with calls that have a key. Keys are remembered for *ttl_seconds*."""

    def __init__(
        self, store: CallerStore, listener: Listener, replies: Replies, keys: Keys, *, ttl_seconds: int
    ) -> None:
        self.store = store
        self.listener = listener
        self.keys = keys
        self.ttl_seconds = ttl_seconds
        self._replies = replies
        self._following: set[asyncio.Task[Reply]] = set()

    def expect(
        self, call: ToolCall, fields: Sequence[str | bytes], future: asyncio.Future[Reply], *, timeout: float
    ) -> OnceCall:
        """Prepare a call whose own reply, if it comes to that, will be *future*.

        Raises:
            InvalidArguments: if the key cannot be one, or would not be remembered until the deadline.
        """
        key = _checked(call, timeout=timeout, ttl_seconds=self.ttl_seconds)
        return OnceCall(self, call, key, fields, future, timeout=timeout)

    async def send(
        self,
        call: ToolCall,
        fields: Sequence[str | bytes],
        calling: Calling,
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> str:
        """Send a call for whose reply nobody waits, and give the id that the key stands for.

        Raises:
            StoreError: if Redis failed.
            RedisUnavailable: if after *timeout* it is not known whether it has the call.
        """
        # A call with a key needs a deadline: here it is that of the key.
        nobody: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        once = self.expect(call, fields, nobody, timeout=self.ttl_seconds)
        return (await once.append_within(calling, timeout)).call_id

    async def detach(
        self,
        call: ToolCall,
        fields: Sequence[str | bytes],
        calling: Calling,
        future: asyncio.Future[Reply],
        *,
        timeout: float,  # noqa: ASYNC109
    ) -> tuple[Remembered, asyncio.Future[Reply]]:
        """Send a call and give at once which it is, for it may join another, with what will be its reply."""
        once = self.expect(call, fields, future, timeout=timeout)
        known = await once.append_within(calling, timeout)
        if known.call_id == call.id and known.reply is None:
            return known, future
        following = asyncio.create_task(self._follow(once, calling, known, timeout), name="follow")
        self._following.add(following)
        following.add_done_callback(self._ended)
        return known, following

    def _ended(self, following: asyncio.Task[Reply]) -> None:
        self._following.discard(following)
        if not following.cancelled():
            # Nobody need ask.
            following.exception()

    async def stop(self) -> None:
        """Follow nothing more."""
        for following in self._following:
            following.cancel()
        await self.listener.stop()

    async def _follow(self, once: OnceCall, calling: Calling, known: Remembered, timeout: float) -> Reply:  # noqa: ASYNC109
        """Wait for the reply to a call that was joined, as long as whoever joined it said."""
        try:
            async with asyncio.timeout(timeout):
                return await once.reply(calling, known)
        except TimeoutError:
            raise no_reply(once.call, timeout, once.sending) from once.sending.lost
        except StoreError as exc:
            raise unavailable(exc) from exc
        finally:
            self._replies.forget(once.call.id)


class OnceCall:
    """One call with a key as its sender sees it, from the first try to its reply."""

    def __init__(
        self,
        calls: OnceCalls,
        call: ToolCall,
        key: OnceKey,
        fields: Sequence[str | bytes],
        future: asyncio.Future[Reply],
        *,
        timeout: float,
    ) -> None:
        self.call = call
        self.sending = Sending()
        self._store = calls.store
        self._listener = calls.listener
        self._channel = calls.keys.once(key.digest)
        self._key = key
        self._fields = fields
        self._future = future
        self._until = asyncio.get_running_loop().time() + timeout

    async def append_within(self, calling: Calling, seconds: float) -> Remembered:
        """Do what `append` does, for no longer than *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                return await self.append(calling)
        except TimeoutError:
            raise no_reply(self.call, seconds, self.sending) from self.sending.lost

    async def append(self, calling: Calling) -> Remembered:
        """Send the call, and give it, or the one that it joins.

        A lost answer is no reason to give up, for asking again cannot send it twice: that ends with the call's time,
        of which the caller takes care. Raises what `CallerStore.append_once` does.
        """
        wait = _FIRST_WAIT
        while True:
            try:
                known = await self._try(calling.calls)
            except StoreError as exc:
                unsure = isinstance(exc, StoreUnavailableError) and exc.maybe_ran
                if not unsure and not self.sending.accepted and self.sending.lost is None:
                    raise
                self.sending.lost = self.sending.lost or exc
            else:
                self._tell(calling, known)
                return known
            # The reply may come although every answer is lost.
            await asyncio.wait({self._future}, timeout=wait * random.uniform(0.5, 1))  # noqa: S311
            if self._future.done():
                reply = self._future.result()
                known = Remembered(reply.call_id, reply.entry_id, reply)
                self._tell(calling, known)
                return known
            wait = min(wait * 2, _LONGEST_WAIT)

    async def reply(self, calling: Calling, known: Remembered) -> Reply:
        """Wait for the reply to what `append` gave."""
        if self._is_joined(known):
            async with self._listener.ear(self._channel) as ear:
                # Our own reply stays away, unless the client stops: then nobody shall wait on.
                self._future.add_done_callback(lambda _: ear.wake())
                while self._is_joined(known) and not self._future.done():
                    told = await ear.reply(within=_LOOK_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311
                    if told is not None and not _is_first_callers(told):
                        return told
                    if not self._future.done():
                        known = await self.append(calling)
        return known.reply or await self._future

    async def _try(self, to: str) -> Remembered:
        left = self._until - asyncio.get_running_loop().time()
        timeout_ms = max(1, int(left * 1000))
        return await self._store.append_once(
            self._fields, timeout_ms=timeout_ms, call_id=self.call.id, key=self._key, to=to
        )

    def _tell(self, calling: Calling, known: Remembered) -> None:
        self.sending.accepted = True
        if known.call_id == self.call.id:
            calling.sent(known.entry_id)
        else:
            calling.joined(known.entry_id)

    def _is_joined(self, known: Remembered) -> bool:
        """Whether it is somebody else's call, and still open."""
        return known.reply is None and known.call_id != self.call.id


def _checked(call: ToolCall, *, timeout: float, ttl_seconds: int) -> OnceKey:
    key, idem = once_key(call), call.idem or ""
    if key is None or len(idem) > MAX_KEY_CHARS or not is_one_line(idem):
        message = f"an idempotency key has 1 to {MAX_KEY_CHARS} characters, none of them a control character"
    elif timeout > ttl_seconds:
        message = f"an idempotency key is remembered for {ttl_seconds} s: its call cannot be waited for {timeout:g} s"
    else:
        return key
    raise InvalidArguments(Failed("malformed", message))


def _is_first_callers(reply: Reply) -> bool:
    return reply.failure is not None and reply.failure.type in _NOT_SHARED
