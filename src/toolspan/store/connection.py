"""The clients: how we connect, how long we wait, and what an error of Redis means."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import redis
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from toolspan.errors import (
    GroupMissingError,
    NotPermittedError,
    ServerFullError,
    StoreError,
    StoreUnavailableError,
    UntrustedServerError,
    WrongTypeError,
)
from toolspan.store.address import Address
from toolspan.store.private import PrivateClient
from toolspan.store.wires import NotConnectedError, NotTrustedError

if TYPE_CHECKING:
    from types import TracebackType

CONNECT_TIMEOUT: Final = 5.0
ANSWER_TIMEOUT: Final = 10.0
BLOCK_MARGIN: Final = 10.0
"""How much longer than its block a blocking read may take before the connection counts as dead, in seconds."""

MAX_CONNECTIONS: Final = 32

# States that pass by themselves, told by the first word of the answer.
_NOT_SERVING: Final = (
    "LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "MISCONF", "NOREPLICAS",
    "UNBLOCKED force unblock",
)  # fmt: skip
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
# A connection that the server closes as it accepts it: nothing of ours was heard.
_NOT_HEARD: Final = "max number of clients reached"
# The last one is said of a stream that is gone with its group.
_GROUP_MISSING: Final = ("NOGROUP", "UNBLOCKED the stream key no longer exists", "no such key")


class Connection:
    """How to reach one Redis: makes the clients that the roles of a process need, and closes them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._clients: list[redis.asyncio.Redis | PrivateClient] = []
        self.commands = self._client(ANSWER_TIMEOUT, connections=MAX_CONNECTIONS)
        """The client for everything that answers at once."""

    @classmethod
    def to(cls, url: str) -> Connection:
        """Reach the server at *url*, or the one that Sentinel there names; nothing is sent yet.

        Raises:
            SettingsError: if the URL cannot be read, or certificates that it names cannot.
        """
        return cls(Address.of(url))

    @classmethod
    def like(cls, client: redis.asyncio.Redis) -> Connection:
        """Reach the same server as *client*, with connections and time limits of our own.

        Raises:
            SettingsError: if it does not name one, or reaches it in a way that we cannot.
        """
        return cls(Address.like(client.connection_pool))

    @property
    def address(self) -> tuple[str, int | None]:
        """Host and port of the server; its socket's path and None; or the service that Sentinel watches, and None."""
        return self._address.told

    def blocking(self, block_ms: int) -> redis.asyncio.Redis:
        """Make a client of one connection for reads that block, whose socket timeout outlives the block."""
        return self._client(block_ms / 1000 + BLOCK_MARGIN, connections=1)

    def private(self, *, block_ms: int = 0) -> PrivateClient:
        """Make a client of one connection for one role alone, whose commands block for at most *block_ms*."""
        client = PrivateClient(self._pool(block_ms / 1000 + BLOCK_MARGIN if block_ms else ANSWER_TIMEOUT, 1))
        self._clients.append(client)
        return client

    def listening(self, timeout: float) -> redis.asyncio.Redis:
        """Make a client of one connection for a subscription; *timeout* bounds its first answer, in seconds."""
        return self._client(timeout, connections=1)

    def threaded(self, timeout: float) -> redis.Redis:
        """Make a client for a thread of its own, without asyncio; *timeout* bounds each answer, in seconds."""
        address = self._address
        options = _options(timeout, Retry(NoBackoff(), 0))
        pool = redis.ConnectionPool(address.blocking_kind, 1, **address.target, **options)
        return redis.Redis.from_pool(pool)

    async def aclose(self) -> None:
        """Close every client for asyncio that was made here."""
        for client in self._clients:
            await client.aclose()

    def _pool(self, timeout: float, connections: int) -> redis.asyncio.ConnectionPool:
        address = self._address
        options = _options(timeout, AsyncRetry(NoBackoff(), 0))
        return redis.asyncio.BlockingConnectionPool(connections, None, address.kind, **address.target, **options)

    def _client(self, timeout: float, *, connections: int) -> redis.asyncio.Redis:
        client = redis.asyncio.Redis.from_pool(self._pool(timeout, connections))
        # Some answers would be folded on the way, repeated fields into one: let them reach us as Redis sent them.
        for command in ("XREADGROUP", "XREAD", "XRANGE", "XPENDING", "XINFO CONSUMERS", "XINFO GROUPS"):
            client.set_response_callback(command, cast("Any", _as_sent))
        self._clients.append(client)
        return client


def _as_sent(answer: Any, **_: Any) -> Any:
    return answer


def _options(timeout: float, retry: Any) -> dict[str, Any]:
    return {
        # A command that writes must not be sent twice: its first answer may have been lost after it ran.
        "retry": retry,
        "protocol": 2,
        "decode_responses": False,
        "socket_timeout": timeout,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
        # The name and version of the library: one more command that a user would have to be permitted.
        "driver_info": None,
    }


class translated:  # noqa: N801 - read as what is done
    """Turns every error of the Redis client into a StoreError that says what it means to us.

    A cancellation that came meanwhile is raised in any case. Before Python 3.12 one that meets a send is lost in the
    client's `wait_for`, and its task would go on as if nobody had asked; a timeout's is lost as well.
    """

    __slots__ = ("_cancelled",)

    def __enter__(self) -> None:
        self._cancelled = _cancellations()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _cancellations() > self._cancelled:
            raise asyncio.CancelledError
        if error is None:
            return
        if isinstance(error, exceptions.RedisError):
            raise store_error(error) from error
        if isinstance(error, _OUTSIDE_THE_TREE):
            raise StoreError(str(error)) from error
        if isinstance(error, OSError):
            raise StoreUnavailableError(str(error), maybe_ran=True) from error


def _cancellations() -> int:
    """Count how often the current task was asked to end; a thread never is."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return task.cancelling() if task else 0


def store_error(exc: exceptions.RedisError) -> StoreError:  # noqa: PLR0911 - a table of cases
    """Choose the StoreError for an error of the Redis client."""
    text = str(exc)
    if isinstance(exc, NotTrustedError):
        return UntrustedServerError(text)
    if isinstance(exc, exceptions.NoPermissionError):
        return NotPermittedError(text)
    if isinstance(exc, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return StoreError(text)
    if isinstance(exc, exceptions.ConnectionError | exceptions.TimeoutError):
        unheard = isinstance(exc, NotConnectedError | exceptions.BusyLoadingError) or _NOT_HEARD in text
        return StoreUnavailableError(text, maybe_ran=not unheard)
    if isinstance(exc, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return ServerFullError(text)
    if isinstance(exc, _NOT_SERVING_ERRORS) or text.startswith(_NOT_SERVING):
        return StoreUnavailableError(text)
    if text.startswith(_GROUP_MISSING):
        return GroupMissingError(text)
    if text.startswith("WRONGTYPE"):
        return WrongTypeError(text)
    return StoreError(text)


async def answer_of(command: Any) -> Any:
    """Await a command whose answer redis-py types as a union over protocols and clients."""
    return await command
