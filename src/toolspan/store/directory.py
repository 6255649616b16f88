"""All streams of a plane: which there are, and what their live workers serve."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from toolspan.keys import Keys
from toolspan.store.connection import translated
from toolspan.store.control import ControlStore
from toolspan.store.inspect import Inspector

if TYPE_CHECKING:
    from collections.abc import Collection

    from toolspan.model import ToolInfo
    from toolspan.store.connection import Connection

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)


class Directory:
    """Looks at every stream that workers have registered, and at our *own*. Every method raises StoreError."""

    def __init__(self, connection: Connection, own: Keys) -> None:
        self._connection = connection
        self._own = own

    async def streams(self) -> list[str]:
        """Name the streams of the plane, our own first, the others in order."""
        with translated():
            found: Any = await self._connection.commands.smembers(self._own.streams)
        names = {raw.decode(errors="replace") for raw in found}
        # Whatever else somebody put there is no stream of ours.
        return [self._own.stream, *sorted(name for name in names - {self._own.stream} if _NAME.fullmatch(name))]

    async def routes(self) -> dict[str, str]:
        """Say for every tool that a live worker serves to which stream its calls go: our own, if it is served there."""
        routes: dict[str, str] = {}
        for stream in await self.streams():
            for worker in await self._of(stream).workers():
                if worker.live:
                    for tool in worker.tools:
                        routes.setdefault(tool, stream)
        return routes

    async def serving(self, tool: str) -> int:
        """Count the live workers, of whichever stream, that serve *tool*."""
        workers = [worker for stream in await self.streams() for worker in await self._of(stream).workers()]
        return sum(worker.live and tool in worker.tools for worker in workers)

    async def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers of any stream serve, by name; each as callers of ours reach it."""
        return [tool for tool, _ in await self._served()]

    async def tools_and_pauses(self) -> list[tuple[ToolInfo, bool]]:
        """Do what `tools` does, and tell of each whether it is paused in the stream to which its calls go."""
        served = await self._served()
        paused = {stream: await self._paused(stream) for stream in {stream for _, stream in served}}
        return [(tool, tool.name in paused[stream]) for tool, stream in served]

    async def _served(self) -> list[tuple[ToolInfo, str]]:
        found: dict[str, tuple[ToolInfo, str]] = {}
        for stream in await self.streams():
            for tool in await self._of(stream).tools():
                found.setdefault(tool.name, (tool, stream))
        return [found[name] for name in sorted(found)]

    async def _paused(self, stream: str) -> Collection[str]:
        return (await ControlStore(self._connection, Keys(self._own.prefix, stream)).read()).paused

    def _of(self, stream: str) -> Inspector:
        return Inspector(self._connection, Keys(self._own.prefix, stream))
