"""A connection that one role has for itself, for the commands that every batch of calls costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis.asyncio


class PrivateClient:
    """Sends one command at a time, and gives the answer as Redis sent it, or raises what the client library raises.

    The library's own client shares connections between many, tries again, and measures itself: half of what a command
    costs us. Here a connection that was lost is made anew before the next command, and nothing else is done.
    """

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        self._pool = pool
        self._connection: Any = None

    async def execute_command(self, *parts: Any) -> Any:
        """Send a command and wait for its answer; nobody else may do so meanwhile."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._pool.make_connection()
        elif connection.should_reconnect():
            await connection.disconnect()
        await self._pool.ensure_connection(connection)
        await connection.send_command(*parts)
        return await connection.read_response()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect()
