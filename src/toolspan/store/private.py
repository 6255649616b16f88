"""A connection that one role has for itself, for the commands that every batch of calls costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        connection = await self._ready()
        await connection.send_command(*parts)
        return await connection.answer()

    async def execute_commands(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send *commands* in one go and wait for the answer of each, or its error; nobody else may do so meanwhile.

        A connection that is lost is the error of all those that had no answer by then.
        """
        connection = await self._ready()
        await connection.send_packed_command([part for parts in commands for part in connection.pack_command(*parts)])
        answers: list[Any] = []
        for _ in commands:
            try:
                answers.append(await connection.answer())
            except exceptions.ResponseError as exc:
                answers.append(exc)
            except exceptions.RedisError as exc:
                return answers + [exc] * (len(commands) - len(answers))
        return answers

    async def _ready(self) -> Any:
        connection = self._connection
        if connection is None:
            connection = self._connection = self._pool.make_connection()
        elif connection.should_reconnect():
            await connection.disconnect()
        await self._pool.ensure_connection(connection)
        return connection

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            await self._connection.disconnect()
