"""Which tools are served now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.store import Connection, Directory

if TYPE_CHECKING:
    from toolspan.model import ToolInfo
    from toolspan.settings import Settings


async def served(settings: Settings) -> list[tuple[ToolInfo, bool]]:
    """Describe the tools of all live workers of all streams, by name; with each, whether it is paused.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    connection = Connection.to(settings.redis_url)
    try:
        return await Directory(connection, settings.keys).tools_and_pauses()
    finally:
        await connection.aclose()
