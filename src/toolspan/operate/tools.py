"""Which tools are served now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolspan.store import Connection, Directory

if TYPE_CHECKING:
    from toolspan.model import ToolInfo
    from toolspan.settings import Settings


async def served(settings: Settings) -> list[ToolInfo]:
    """Describe the tools of all live workers of all streams, by name.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    connection = Connection.to(settings.redis_url)
    try:
        return await Directory(connection, settings.keys).tools()
    finally:
        await connection.aclose()
