"""A call whose progress is followed."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from toolspan.gateway.outcomes import succeeded
from toolspan.periodic import ended

if TYPE_CHECKING:
    from types import TracebackType

    from toolspan.gateway.client import ToolClient
    from toolspan.model import Progress, Reply, ToolCall, TraceFields

KEPT: Final = 1_000
"""Progress that nobody has taken yet; of more, the oldest is let go."""


class CallStream:
    """One call: `async for` gives what it tells of its progress, `reply` its end.

    Entered once the call is accepted. Leaving the block before the reply is here cancels the call.
    """

    def __init__(
        self, client: ToolClient, call: ToolCall, *, timeout: float, parent: TraceFields | None = None
    ) -> None:
        self.call_id = call.id
        self.traceparent: str | None = None
        """The span of the call, once the block is entered."""
        self._client = client
        self._call = call
        self._timeout = timeout
        self._parent = parent
        self._unread: deque[Progress] = deque(maxlen=KEPT)
        self._last = (0, 0)
        self._accepted = False
        self._news = asyncio.Event()
        self._asking: asyncio.Task[Reply] | None = None

    async def __aenter__(self) -> Self:
        await self.begin()
        return self

    async def begin(self) -> None:
        """Send the call, and wait until it is accepted; does nothing the second time.

        Raises:
            InvalidArguments, TooLarge: if it cannot be sent.
            RedisUnavailable, ToolTimeout: if it was not accepted in time.
        """
        if self._asking is not None:
            return
        self._asking = asyncio.create_task(self._ask(), name=f"call {self.call_id}")
        self._asking.add_done_callback(lambda _: self._news.set())
        try:
            while not (self._accepted or self._unread or self._asking.done()):
                await self._wait_for_news()
        except asyncio.CancelledError:
            await self.leave()
            raise
        if self._asking.done():
            # What a worker answered is told by `reply`, and this by nobody else.
            self._asking.result()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Progress:
        """Wait for the next progress; raises what `ToolClient.call` does if the call fails."""
        progress = await self.next_progress()
        if progress is None:
            await self.reply()
            raise StopAsyncIteration
        return progress

    async def next_progress(self) -> Progress | None:
        """Wait for the next progress; None: there is no more, for the call has ended."""
        while True:
            if self._unread:
                return self._unread.popleft()
            if self._task.done():
                return None
            await self._wait_for_news()

    async def answer(self) -> Reply:
        """Wait for the reply, a failure too. Raises what `ToolClient.call` does where there is no reply."""
        await asyncio.wait({self._task})
        return self._task.result()

    async def reply(self) -> Reply:
        """Wait for the reply and give it; raises what `ToolClient.call` does."""
        return succeeded(await self.answer())

    async def leave(self) -> None:
        """Cancel the call, unless its reply is here."""
        if self._asking is None:
            return
        await ended(self._asking)
        if not self._asking.cancelled():
            # Whoever left does not ask for it.
            self._asking.exception()

    # ── told by the client ─────────────────────────────────────────────────────────────────────────

    def accepted(self) -> None:
        """The call lies in the stream."""
        self._accepted = True
        self._news.set()

    def progressed(self, progress: Progress) -> None:
        """The tool told of its progress: anything older than what we know came twice, or late."""
        at = (progress.attempt, progress.seq)
        if at > self._last:
            self._last = at
            self._unread.append(progress)
            self._news.set()

    @property
    def _task(self) -> asyncio.Task[Reply]:
        if self._asking is None:
            message = "follow the call inside its `with` block"
            raise RuntimeError(message)
        return self._asking

    async def _ask(self) -> Reply:
        call = self._call
        watched = self._client.probe.calling(
            tool=call.tool,
            call_id=call.id,
            calls=await self._client.stream_for(call.tool),
            tool_call_id=call.tool_call_id,
            parent=self._parent,
        )
        with watched as calling:
            self.traceparent = calling.traceparent
            return await self._client.asking.ask(call, calling, timeout=self._timeout, follower=self)

    async def _wait_for_news(self) -> None:
        self._news.clear()
        await self._news.wait()
