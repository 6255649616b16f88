"""Which tools are served now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.store import Connection, ControlStore, Inspector

if TYPE_CHECKING:
    from toolspan.model import ToolInfo
    from toolspan.settings import Settings


async def served(settings: Settings) -> list[tuple[ToolInfo, bool]]:
    """Describe the tools of all live workers, by name; with each, whether it is paused.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    connection = Connection.to(settings.redis_url)
    try:
        found = await Inspector(connection, settings.keys).tools()
        paused = (await ControlStore(connection, settings.keys).read()).paused
        return [(tool, tool.name in paused) for tool in found]
    finally:
        await connection.aclose()
