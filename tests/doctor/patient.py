"""A server, and what the doctor finds there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conftest import settings_for
from toolspan.operate.doctor import Finding, examine
from toolspan.store import Connection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer


_WELL = {
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "timeout": "0",
    "client-output-buffer-limit": "normal 0 0 0",
}


class Patient:
    """One server; commands go to it as its default user."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.settings = settings_for(server.tcp_url)
        self.keys = self.settings.keys
        self._connection = Connection.to(server.tcp_url)

    async def call(self, *command: Any) -> Any:
        return await self._connection.commands.execute_command(*command)

    async def user(self, name: str, *rules: str) -> Settings:
        """Make a user, and give the settings with which it is used."""
        await self.call("ACL SETUSER", name, "on", ">secret", *rules)
        url = f"redis://{name}:secret@127.0.0.1:{self.server.port}/0"
        return self.settings.model_copy(update={"redis_url": url})

    async def findings(self, settings: Settings | None = None, *, roles: Sequence[str] = ()) -> dict[str, Finding]:
        """Examine it, and give each check's gravest finding."""
        told = settings or self.settings
        connection = Connection.to(told.redis_url)
        try:
            found = await examine(connection, told, roles=roles)
        finally:
            await connection.aclose()
        levels = ("ok", "unknown", "warn", "problem")
        return {one.check: one for one in sorted(found, key=lambda one: levels.index(one.level))}

    async def registers(self, name: str, **fields: Any) -> None:
        """Have a worker register and beat."""
        about = {
            "host": "h",
            "pid": 7,
            "version": "1.2",
            "protocol": 1,
            "lease": 1_000,
            "start": 5,
            "concurrency": 10,
            "tools": "{}",
            "running": "{}",
            **fields,
        }
        await self.call("HSET", self.keys.worker(name), *(part for pair in about.items() for part in pair))
        seconds, _ = await self.call("TIME")
        # Far enough ahead that it is live while the test lasts.
        await self.call("ZADD", self.keys.workers, (int(seconds) + 60) * 1000, name)

    async def group(self) -> None:
        await self.call("XGROUP CREATE", self.keys.calls, self.keys.group, "0", "MKSTREAM")

    async def held(self, owner: str, count: int = 1) -> None:
        """Add calls that *owner* holds."""
        for _ in range(count):
            await self.call("XADD", self.keys.calls, "*", "tool", "echo")
        await self.call("XREADGROUP", "GROUP", self.keys.group, owner, "COUNT", count, "STREAMS", self.keys.calls, ">")

    async def heal(self) -> None:
        """Undo all that was done to it."""
        await self.call("REPLICAOF", "NO", "ONE")
        for setting, value in _WELL.items():
            await self.call("CONFIG SET", setting, value)
        for name in await self.call("ACL USERS"):
            if name not in {"default", b"default"}:
                await self.call("ACL DELUSER", name)
        await self.call("FLUSHALL")
        await self._connection.aclose()
