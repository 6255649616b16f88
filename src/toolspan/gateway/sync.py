"""SyncToolClient: the same client for programs without asyncio."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from toolspan.gateway.client import ToolClient

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from types import TracebackType

    from toolspan.gateway.options import CallOptions, SendOptions
    from toolspan.gateway.streams import CallStream
    from toolspan.model import Progress, Reply, ToolInfo
    from toolspan.settings import Settings
    from toolspan.telemetry.probe import Probe

T = TypeVar("T")


class SyncToolClient:
    """Calls tools and blocks until they answer; many threads may use one. Takes what `ToolClient` takes."""

    def __init__(self, settings: Settings | None = None, *, url: str | None = None, probe: Probe | None = None) -> None:
        self._client = ToolClient(settings, url=url, probe=probe)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._leaving: asyncio.Event

    def __enter__(self) -> Self:
        opened: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._live(opened)), name="toolspan-client", daemon=True
        )
        self._thread.start()
        opened.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._leaving.set)
            self._thread.join()
            self._thread = None

    def call(self, tool: str, args: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]) -> Reply:
        """Run *tool* and give its reply; raises what `ToolClient.call` does."""
        return self._wait(self._client.call(tool, args, **options))

    @contextmanager
    def stream(
        self, tool: str, args: Mapping[str, Any] | None = None, **options: Unpack[CallOptions]
    ) -> Iterator[SyncCallStream]:
        """Run *tool* and follow it, as `ToolClient.stream` does: `for` gives its `Progress`, `reply()` its end."""
        following = self._client.stream(tool, args, **options)
        try:
            self._wait(following.begin())
            yield SyncCallStream(following, self._wait)
        finally:
            self._wait(following.leave())

    def cancel(self, call_id: str) -> None:
        """Cancel a call; raises what `ToolClient.cancel` does."""
        self._wait(self._client.cancel(call_id))

    def send(self, tool: str, args: Mapping[str, Any] | None = None, **options: Unpack[SendOptions]) -> str:
        """Have *tool* run without waiting; raises what `ToolClient.send` does."""
        return self._wait(self._client.send(tool, args, **options))

    def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers serve now; raises what `ToolClient.tools` does."""
        return self._wait(self._client.tools())

    async def _live(self, opened: Future[None]) -> None:
        """Keep the client open, on the loop of our thread, until somebody leaves."""
        self._loop, self._leaving = asyncio.get_running_loop(), asyncio.Event()
        async with self._client:
            opened.set_result(None)
            await self._leaving.wait()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            coroutine.close()
            message = "use the client inside its `with` block"
            raise RuntimeError(message)
        answer = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return answer.result()
        finally:
            # Whoever was interrupted here, by Ctrl-C say, waits no longer.
            answer.cancel()


class SyncCallStream:
    """One call that is followed: `for` gives what it tells of its progress, `reply` its end."""

    def __init__(self, following: CallStream, wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.call_id = following.call_id
        self._following = following
        self._wait = wait

    def __iter__(self) -> Iterator[Progress]:
        """Wait for each progress; raises what `ToolClient.call` does if the call fails."""
        while (progress := self._wait(self._following.next_progress())) is not None:
            yield progress
        self.reply()

    def reply(self) -> Reply:
        """Wait for the reply and give it; raises what `ToolClient.call` does."""
        reply: Reply = self._wait(self._following.reply())
        return reply
