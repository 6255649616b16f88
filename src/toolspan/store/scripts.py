"""Loads the Lua files and calls them by the names in their headers."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import NoScriptError, RedisError

from toolspan.errors import NotReplicatedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    import redis
    import redis.asyncio

    from toolspan.store.private import PrivateClient

_PARAMETER: Final = re.compile(r"^-- (KEYS|ARGV)\[\d+(\.\.)?\] (\w+)", re.MULTILINE)
_REPLICAS_SECONDS: Final = 1.0
"""How long replicas may take to confirm a write."""

_INCLUDE: Final = re.compile(r"^-- include (\w+)$", re.MULTILINE)


@cache
def compose(name: str) -> str:
    """Give the full text of the script *name*: the pieces that it includes, then itself."""
    folder = files(__package__) / "lua"
    text = (folder / f"{name}.lua").read_text()
    pieces = [(folder / "lib" / f"{piece}.lua").read_text() for piece in _INCLUDE.findall(text)]
    return "\n".join([*pieces, text])


class Script:
    """One Lua file, called by keyword: every `KEYS[n] name` and `ARGV[n] name` of its header, no more and no less.

    A name that stands for the rest (`ARGV[5..] held`) takes a sequence. With *replicas*, each run waits until so many
    have confirmed what was written.
    """

    def __init__(self, name: str, *, replicas: int = 0) -> None:
        self.name = name
        self._replicas = replicas
        self.text = compose(name)
        self._sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        parameters = _PARAMETER.findall(self.text)
        self._keys = [(name, bool(rest)) for kind, rest, name in parameters if kind == "KEYS"]
        self._args = [(name, bool(rest)) for kind, rest, name in parameters if kind == "ARGV"]
        self._names = frozenset(name for name, _ in self._keys + self._args)

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """Put *values* in the order in which EVALSHA wants them.

        Raises:
            TypeError: if a name is missing or unknown.
        """
        if values.keys() != self._names:
            message = f"{self.name}.lua takes {sorted(self._names)}, not {sorted(values)}"
            raise TypeError(message)
        keys = _flat(self._keys, values)
        return [len(keys), *keys, *_flat(self._args, values)]

    async def run(self, client: redis.asyncio.Redis | PrivateClient, **values: Any) -> Any:
        """Run the script once; it is loaded first where the server does not know it, and has not run then.

        One that waits for replicas needs a client that has pipelines.

        Raises:
            NotReplicatedError: if it has run, and too few replicas confirm that in time.
        """
        arguments = self.arguments(values)
        try:
            return await self._called(client, arguments)
        except NoScriptError:
            await cast("Awaitable[Any]", client.execute_command("SCRIPT LOAD", self.text))
            return await self._called(client, arguments)

    def _called(self, client: redis.asyncio.Redis | PrivateClient, arguments: list[Any]) -> Awaitable[Any]:
        if self._replicas:
            return self._confirmed(cast("redis.asyncio.Redis", client), arguments)
        return cast("Awaitable[Any]", client.execute_command("EVALSHA", self._sha, *arguments))

    async def _confirmed(self, client: redis.asyncio.Redis, arguments: list[Any]) -> Any:
        # On one connection: WAIT is about what that has written.
        pipeline = client.pipeline(transaction=False)
        pipeline.execute_command("EVALSHA", self._sha, *arguments)
        pipeline.execute_command("WAIT", self._replicas, int(_REPLICAS_SECONDS * 1000))
        answer, confirmed = await pipeline.execute(raise_on_error=False)
        if isinstance(answer, RedisError):
            raise answer
        if isinstance(confirmed, RedisError) or confirmed < self._replicas:
            told = confirmed if isinstance(confirmed, RedisError) else f"{confirmed} of {self._replicas} replicas did"
            message = (
                f"{self.name}: it was written, but not confirmed by {self._replicas} replicas within "
                f"{_REPLICAS_SECONDS:g} s ({told}); a failover now may undo it"
            )
            raise NotReplicatedError(message)
        return answer

    def commands(self, runs: Sequence[dict[str, Any]]) -> list[list[Any]]:
        """Give what runs it once for each of *runs* if it is sent in one go, for a server that may not know it, too.

        The first command has an answer of its own.
        """
        each = [["EVALSHA", self._sha, *self.arguments(values)] for values in runs]
        return [["SCRIPT LOAD", self.text], *each]

    def run_blocking(self, client: redis.Redis, **values: Any) -> Any:
        """Do the same for a client without asyncio."""
        arguments = self.arguments(values)
        try:
            return client.execute_command("EVALSHA", self._sha, *arguments)
        except NoScriptError:
            client.execute_command("SCRIPT LOAD", self.text)
            return client.execute_command("EVALSHA", self._sha, *arguments)


def _flat(parameters: list[tuple[str, bool]], values: dict[str, Any]) -> list[Any]:
    flat: list[Any] = []
    for name, rest in parameters:
        if rest:
            flat.extend(values[name])
        else:
            flat.append(values[name])
    return flat
