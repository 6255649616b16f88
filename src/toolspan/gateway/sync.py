"""SyncToolClient: the same client for programs without asyncio."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from toolspan.gateway.client import ToolClient

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from types import TracebackType

    from toolspan.model import Reply, ToolInfo
    from toolspan.settings import Settings

T = TypeVar("T")


class SyncToolClient:
    """Calls tools and blocks until they answer; may be used by many threads at once. See `ToolClient`."""

    def __init__(self, settings: Settings | None = None, *, url: str | None = None) -> None:
        self._settings = settings
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toolspan", daemon=True)
        self._client: ToolClient

    def __enter__(self) -> Self:
        self._thread.start()
        self._client = self._wait(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._client.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, tool: str, args: Mapping[str, Any] | None = None, **options: Any) -> Reply:
        """Run *tool* and give its reply; takes and raises what `ToolClient.call` does."""
        return self._wait(self._client.call(tool, args, **options))

    def send(self, tool: str, args: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Have *tool* run without waiting; takes and raises what `ToolClient.send` does."""
        return self._wait(self._client.send(tool, args, **options))

    def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers serve now; raises what `ToolClient.tools` does."""
        return self._wait(self._client.tools())

    async def _open(self) -> ToolClient:
        return await ToolClient(self._settings, url=self._url).__aenter__()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()
