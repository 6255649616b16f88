"""What the server says of itself and of us: versions, settings, permissions, kinds of keys; writes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import ResponseError

from toolspan.store.clock import redis_ms
from toolspan.store.connection import translated
from toolspan.store.names import name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_NS_PER_MS: Final = 1_000_000


class ServerReader:
    """Asks the server about itself. Every method raises StoreError, also where we may not ask."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys

    async def info(self) -> dict[str, str]:
        """Give what INFO tells, name to value; only the numbers of key spaces are left out."""
        with translated():
            told: Any = await self._redis.execute_command("INFO", "everything")
        return {name: str(value) for name, value in told.items() if not isinstance(value, dict)}

    async def config(self, *names: str) -> dict[str, str]:
        """Give those of the server's settings that it has."""
        with translated():
            told: Any = await self._redis.execute_command("CONFIG GET", *names)
        return {_text(name): _text(value) for name, value in told.items()}

    async def user(self) -> str:
        """Name the user that we are."""
        with translated():
            return _text(await self._any("ACL WHOAMI"))

    async def refused(self, user: str, commands: Iterable[Sequence[str]]) -> list[str]:
        """Give what the server answers for those of *commands* that *user* may not run; none of them is run."""
        refusals = []
        for command in commands:
            with translated():
                answer = _text(await self._any("ACL DRYRUN", user, *command))
            if answer != "OK":
                refusals.append(answer)
        return refusals

    async def strangers(self, expected: Mapping[str, str]) -> dict[str, str]:
        """Name the keys of *expected*, key to kind, under which another kind of value lies, and which."""
        with translated():
            pipeline = self._redis.pipeline(transaction=False)
            for key in expected:
                pipeline.type(key)
            kinds = await pipeline.execute()
        found = {key: _text(kind) for key, kind in zip(expected, kinds, strict=True)}
        return {key: kind for key, kind in found.items() if kind not in {"none", expected[key]}}

    async def sizes(self) -> tuple[int, int]:
        """Count the entries of the stream, and the dead letters."""
        with translated():
            return await self._any("XLEN", self._keys.calls), await self._any("XLEN", self._keys.dead_letters)

    async def parked_without_due_time(self) -> int:
        """Count the calls that are parked and that nobody would ever find due; 0 where there is no group."""
        with translated():
            try:
                consumers = await self._any("XINFO CONSUMERS", self._keys.calls, self._keys.group)
            except ResponseError as exc:
                if str(exc).startswith(("NOGROUP", "no such key")):
                    return 0
                raise
            due = await self._any("ZCARD", self._keys.parked)
        return sum(max(0, info[3] - due) for info in consumers if name_of(info[1]) == "~parked")

    async def clock_ahead_ms(self) -> float:
        """Tell by how much our clock is ahead of Redis', to within half a round trip."""
        with translated():
            asked_ns = time.time_ns()
            now_ms = await redis_ms(self._redis)
            answered_ns = time.time_ns()
        return (asked_ns + answered_ns) / 2 / _NS_PER_MS - now_ms

    async def _any(self, *command: Any) -> Any:
        # What redis-py types as a union over protocols and clients.
        answer: Any = await self._redis.execute_command(*command)
        return answer


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
