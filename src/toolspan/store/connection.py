"""The clients: how we connect, how long we wait, and what an error of Redis means."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import hiredis
import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from toolspan.errors import (
    GroupMissingError,
    ServerFullError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
    WrongTypeError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECT_TIMEOUT: Final = 5.0
ANSWER_TIMEOUT: Final = 10.0
BLOCK_MARGIN: Final = 10.0
"""How much longer than its block a blocking read may take before the connection counts as dead, in seconds."""

MAX_CONNECTIONS: Final = 32

# States that pass by themselves, told by the first word of the answer.
_NOT_SERVING: Final = ("LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "MISCONF", "NOREPLICAS")
_NOT_SERVING_ERRORS: Final = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
# What the client raises beside its own base class; none of them passes by itself.
_OUTSIDE_THE_TREE: Final = (
    exceptions.RedisClusterException,
    exceptions.ChildDeadlockedError,
    exceptions.IncorrectPolicyType,
)
# A connection that never came to be: nothing of ours was sent on it.
_NOT_SENT: Final = (" connecting to ", "max number of clients reached")
# The last one is said of a stream that is gone with its group.
_GROUP_MISSING: Final = ("NOGROUP", "UNBLOCKED the stream key no longer exists", "no such key")


class Connection:
    """How to reach one Redis: makes the clients that the roles of a process need, and closes them."""

    def __init__(self, pool: redis.asyncio.ConnectionPool) -> None:
        self._kind = _kind_of(pool)
        self._target = {name: value for name, value in pool.connection_kwargs.items() if _names_the_server(name)}
        self._clients: list[redis.asyncio.Redis] = []
        self.commands = self._client(ANSWER_TIMEOUT, connections=MAX_CONNECTIONS)
        """The client for everything that answers at once."""

    @classmethod
    def to(cls, url: str) -> Connection:
        """Reach the server at *url*; nothing is sent yet.

        Raises:
            SettingsError: if the URL cannot be read.
        """
        try:
            return cls(redis.asyncio.ConnectionPool.from_url(url))
        except ValueError:
            # The reason would quote what was taken for a port or a host: it may be the password.
            message = (
                "TOOLSPAN_REDIS_URL cannot be read: is its port a number, are its options known, and is what is "
                "special in its password written as %XX?"
            )
            raise SettingsError(message) from None

    @classmethod
    def like(cls, client: redis.asyncio.Redis) -> Connection:
        """Reach the same server as *client*, with connections and time limits of our own.

        Raises:
            SettingsError: if it does not name one, or reaches it in a way that we cannot.
        """
        return cls(client.connection_pool)

    @property
    def address(self) -> tuple[str, int | None]:
        """Host and port of the server, or its socket's path and None."""
        path = self._target.get("path")
        if path is not None:
            return str(path), None
        return str(self._target.get("host", "localhost")), int(self._target.get("port", 6379))

    def blocking(self, block_ms: int) -> redis.asyncio.Redis:
        """Make a client of one connection for reads that block, whose socket timeout outlives the block."""
        return self._client(block_ms / 1000 + BLOCK_MARGIN, connections=1)

    def listening(self, timeout: float) -> redis.asyncio.Redis:
        """Make a client of one connection for a subscription; *timeout* bounds its first answer, in seconds."""
        return self._client(timeout, connections=1)

    def threaded(self, timeout: float) -> redis.Redis:
        """Make a client for a thread of its own, without asyncio; *timeout* bounds each answer, in seconds."""
        pool = redis.ConnectionPool(
            _WITHOUT_ASYNCIO[self._kind], 1, **self._target, **_options(timeout, Retry(NoBackoff(), 0))
        )
        return redis.Redis.from_pool(pool)

    async def aclose(self) -> None:
        """Close every client for asyncio that was made here."""
        for client in self._clients:
            await client.aclose()

    def _client(self, timeout: float, *, connections: int) -> redis.asyncio.Redis:
        pool = redis.asyncio.BlockingConnectionPool(
            connections,
            None,
            _PACKED[self._kind],
            **self._target,
            **_options(timeout, AsyncRetry(NoBackoff(), 0)),
        )
        client = redis.asyncio.Redis.from_pool(pool)
        # Some answers would be folded on the way, repeated fields into one: let them reach us as Redis sent them.
        for command in ("XREADGROUP", "XREAD", "XRANGE", "XPENDING", "XINFO CONSUMERS", "XINFO GROUPS"):
            client.set_response_callback(command, cast("Any", _as_sent))
        self._clients.append(client)
        return client


def _as_sent(answer: Any, **_: Any) -> Any:
    return answer


class _Packed:
    """Writes commands with hiredis, as the client without asyncio does: in Python it is half the cost of a call."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Give the bytes of a command; its first part may be two words."""
        try:
            return [hiredis.pack_command((*args[0].encode().split(), *args[1:]))]
        except TypeError as exc:
            raise exceptions.DataError(str(exc)) from None


class _Connection(_Packed, redis.asyncio.Connection):
    pass


class _SSLConnection(_Packed, redis.asyncio.SSLConnection):
    pass


class _UnixDomainSocketConnection(_Packed, redis.asyncio.UnixDomainSocketConnection):
    pass


_Kind: TypeAlias = type[redis.asyncio.Connection | redis.asyncio.UnixDomainSocketConnection]
# The first that fits counts: with TLS is a special case of without.
_PACKED: Final[dict[_Kind, _Kind]] = {
    redis.asyncio.SSLConnection: _SSLConnection,
    redis.asyncio.Connection: _Connection,
    redis.asyncio.UnixDomainSocketConnection: _UnixDomainSocketConnection,
}
_WITHOUT_ASYNCIO: Final = {
    redis.asyncio.SSLConnection: redis.SSLConnection,
    redis.asyncio.Connection: redis.Connection,
    redis.asyncio.UnixDomainSocketConnection: redis.UnixDomainSocketConnection,
}


def _kind_of(pool: redis.asyncio.ConnectionPool) -> _Kind:
    """Give the kind of connection of the client library that the pool's are, or were made from."""
    made = pool.connection_class
    if isinstance(pool, SentinelConnectionPool):
        message = "a client that asks Sentinel for its server does not say which one: give one that names it"
        raise SettingsError(message)
    for kind in _PACKED:
        if issubclass(made, kind):
            return kind
    message = f"a client with connections of the kind {made.__name__}: only TCP, TLS and Unix sockets are known here"
    raise SettingsError(message)


def _options(timeout: float, retry: Any) -> dict[str, Any]:
    return {
        # A command that writes must not be sent twice: its first answer may have been lost after it ran.
        "retry": retry,
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
    }


def _names_the_server(option: str) -> bool:
    """Whether an option says which server, and as whom, rather than how to talk to it, which is ours to say."""
    return option.startswith("ssl") or option in {
        "host", "port", "path", "db", "username", "password", "credential_provider", "socket_keepalive",
    }  # fmt: skip


@contextmanager
def translated() -> Iterator[None]:
    """Turn every error of the Redis client into a StoreError that says what it means to us."""
    try:
        yield
    except exceptions.RedisError as exc:
        raise store_error(exc) from exc
    except _OUTSIDE_THE_TREE as exc:
        raise StoreError(str(exc)) from exc
    except OSError as exc:
        raise StoreUnavailableError(str(exc), maybe_ran=True) from exc


def store_error(exc: exceptions.RedisError) -> StoreError:  # noqa: PLR0911 - a table of cases
    """Choose the StoreError for an error of the Redis client."""
    text = str(exc)
    if isinstance(exc, exceptions.AuthenticationError):
        return StoreError(text)
    if isinstance(exc, exceptions.ConnectionError | exceptions.TimeoutError):
        refused = isinstance(exc, exceptions.BusyLoadingError) or any(told in text for told in _NOT_SENT)
        return StoreUnavailableError(text, maybe_ran=not refused)
    if isinstance(exc, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return ServerFullError(text)
    if isinstance(exc, _NOT_SERVING_ERRORS) or text.startswith(_NOT_SERVING):
        return StoreUnavailableError(text)
    if text.startswith(_GROUP_MISSING):
        return GroupMissingError(text)
    if text.startswith("WRONGTYPE"):
        return WrongTypeError(text)
    return StoreError(text)
