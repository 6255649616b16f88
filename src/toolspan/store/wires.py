"""The kinds of connections: how they come about, so that it is known whether anything was sent on one that failed."""

from __future__ import annotations

import asyncio
import math
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import hiredis
import redis
import redis.asyncio
import redis.asyncio.connection
import redis.connection
from redis import exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA

if TYPE_CHECKING:
    from collections.abc import Mapping

# For the type checker, what our mix-ins are mixed with.
if TYPE_CHECKING:
    _Asynchronous = redis.asyncio.Connection
    _Blocking = redis.Connection
    _Parser = Any
else:
    _Asynchronous = _Blocking = _Parser = object


class NotConnectedError(exceptions.ConnectionError):
    """No connection came about, handshakes included: nothing of ours was sent on it."""


class NotTrustedError(NotConnectedError):
    """The server's certificate cannot be verified."""


_READ_AT_ONCE: Final = 64 * 1024
_TAKEN_AT_ONCE: Final = 64 * 1024
"""From so many bytes on that wait to be sent, asyncio itself has whoever writes wait."""


class _Telling(_Parser):  # type: ignore[misc]
    """Reads answers; a refusal says whose it is, and a server that is no primary any more is left at once."""

    def on_connect(self, connection: Any) -> None:
        self._connection = connection
        super().on_connect(connection)

    def parse_error(self, response: str) -> Exception:
        if response.startswith(_NO_PRIMARY):
            connection = self._connection
            connection.mark_for_reconnect()
        error: Exception = super().parse_error(response)
        if response.startswith(_NOT_PERMITTED):
            user = self._connection.username or "default"
            return exceptions.NoPermissionError(f"the user {user} is not permitted to do this: {error}")
        return error


class _Parsing(_Telling, redis.asyncio.connection.DefaultParser):  # type: ignore[valid-type,misc]
    async def next(self) -> Any:
        """Wait for an answer; an error is one, too, unless it says that this connection is of no use.

        Raises:
            exceptions.ConnectionError: if it is not.
        """
        answer = self._reader.gets()
        while answer is NOT_ENOUGH_DATA:
            received = await self._stream.read(_READ_AT_ONCE)
            if not received:
                raise exceptions.ConnectionError("Connection closed by server.")
            self._reader.feed(received)
            answer = self._reader.gets()
        if isinstance(answer, exceptions.ConnectionError):
            raise answer
        return answer


class _ParsingBlocking(_Telling, redis.connection.DefaultParser):  # type: ignore[valid-type,misc]
    pass


class _Ours(_Asynchronous):
    """Writes commands with hiredis, as the client without asyncio does: in Python it is half the cost of a call."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parser_class=_Parsing, **options)
        self._alarm: asyncio.TimerHandle | None = None
        self._overdue = math.inf

    async def connect(self) -> None:
        """Connect, shake hands, and make sure that somebody answers.

        Raises:
            NotConnectedError: if no connection comes about within the limit for all of that together.
        """
        if self.is_connected:
            return
        try:
            async with asyncio.timeout(self.socket_connect_timeout):
                await super().connect()  # type: ignore[no-untyped-call]
                question = _greeting(self)
                if question:
                    await self.send_command(question, check_health=False)
                    self._hear(await self.read_response())
        except BaseException as exc:
            # Left open, it would be taken for one that is ready.
            with suppress(OSError, exceptions.RedisError):
                await self.disconnect(nowait=True)
            if isinstance(exc, _NO_CONNECTION):
                raise _not_connected(exc, self._host_error()) from exc
            raise

    def _hear(self, answer: Any) -> None:
        """Look at what the greeting was answered."""

    async def answer(self) -> Any:
        """Wait for the answer to a command, and raise it if it is an error: `read_response`, at a fraction of its cost.

        Instead of a timer for each answer, one looks now and then whether somebody has waited for too long.
        """
        loop = asyncio.get_running_loop()
        parser: Any = self._parser
        seconds: Any = self.socket_timeout
        self._overdue = loop.time() + seconds
        if self._alarm is None:
            self._alarm = loop.call_at(self._overdue, self._ring, loop)
        try:
            answer = await parser.next()
        except OSError as exc:
            await self.disconnect(nowait=True)
            message = f"Error while reading from {self._host_error()}: {exc}"
            raise exceptions.ConnectionError(message) from exc
        except BaseException:
            # What comes of it would be taken for the answer to the next command.
            await self.disconnect(nowait=True)
            raise
        finally:
            self._overdue = math.inf
        if isinstance(answer, exceptions.RedisError):
            raise answer
        return answer

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alarm = None
        if self._reader is None or math.isinf(self._overdue):
            return
        if loop.time() < self._overdue:
            self._alarm = loop.call_at(self._overdue, self._ring, loop)
        else:
            self._reader.set_exception(exceptions.TimeoutError(f"Timeout reading from {self._host_error()}"))

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Hand a command over to the loop; where it is more than that takes at once, wait until it is gone."""
        writer = self._writer
        if writer is None or writer.transport.is_closing():
            # A connection comes first, or is told to be lost.
            await super().send_packed_command(command, check_health)
            return
        writer.writelines([command] if isinstance(command, bytes) else command)
        if writer.transport.get_write_buffer_size() > _TAKEN_AT_ONCE:
            # The limit of time for this is a task of its own, which most commands need not pay for.
            await super().send_packed_command([], check_health=False)

    def pack_command(self, *args: Any) -> list[bytes]:
        """Give the bytes of a command; its first part may be two words."""
        try:
            return [hiredis.pack_command((*args[0].encode().split(), *args[1:]))]
        except TypeError as exc:
            raise exceptions.DataError(str(exc)) from None


class _OursBlocking(_Blocking):
    """Does the same without asyncio; each step of the handshake has its limit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parser_class=_ParsingBlocking, **options)  # type: ignore[no-untyped-call]

    def connect(self) -> None:
        if self.is_connected:
            return
        try:
            super().connect()  # type: ignore[no-untyped-call]
            question = _greeting(self)
            if question:
                self.send_command(question, check_health=False)  # type: ignore[no-untyped-call]
                self._hear(self.read_response())
        except BaseException as exc:
            with suppress(OSError, exceptions.RedisError):
                self.disconnect()  # type: ignore[no-untyped-call]
            if isinstance(exc, _NO_CONNECTION):
                raise _not_connected(exc, self._host_error()) from exc  # type: ignore[no-untyped-call]
            raise

    def _hear(self, answer: Any) -> None:
        """Look at what the greeting was answered."""


class PlainConnection(_Ours, redis.asyncio.Connection):
    """TCP."""


class TLSConnection(_Ours, redis.asyncio.SSLConnection):
    """TCP with TLS."""


class SocketConnection(_Ours, redis.asyncio.UnixDomainSocketConnection):
    """A Unix socket."""


class PlainBlocking(_OursBlocking, redis.Connection):
    """TCP, without asyncio."""


class TLSBlocking(_OursBlocking, redis.SSLConnection):
    """TCP with TLS, without asyncio."""


class SocketBlocking(_OursBlocking, redis.UnixDomainSocketConnection):
    """A Unix socket, without asyncio."""


Kind: TypeAlias = type[redis.asyncio.Connection | redis.asyncio.UnixDomainSocketConnection]
BlockingKind: TypeAlias = type[redis.Connection | redis.UnixDomainSocketConnection]

# The first that fits counts: with TLS is a special case of without.
OURS: Final[Mapping[Kind, tuple[Kind, BlockingKind]]] = {
    redis.asyncio.SSLConnection: (TLSConnection, TLSBlocking),
    redis.asyncio.Connection: (PlainConnection, PlainBlocking),
    redis.asyncio.UnixDomainSocketConnection: (SocketConnection, SocketBlocking),
}
"""A kind of the client library, and what we make of it: with asyncio, and without."""

_NO_CONNECTION: Final = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
# Connections that came about, with a server that says why it does not serve: that is told in its own words.
_ANSWERED: Final = (exceptions.AuthenticationError, exceptions.AuthorizationError, exceptions.BusyLoadingError)
_NO_PRIMARY: Final = ("READONLY", "UNBLOCKED force unblock")
# How scripts are told, on Redis 7.0 and on what came after it.
_NOT_PERMITTED: Final = ("NOPERM", "ERR The user executing the script can't", "ERR ACL failure in script")


def _greeting(connection: Any) -> str | None:
    """Choose the first command: a server that accepts and then is silent must be known before ours is sent."""
    if hasattr(connection, "sentinels"):
        return "ROLE"
    named = connection.username or connection.password or connection.credential_provider
    return None if named or connection.db else "PING"


def _not_connected(exc: BaseException, where: str) -> BaseException:
    if isinstance(exc, (*_ANSWERED, NotConnectedError)):
        return exc
    cause: BaseException | None = exc
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message or str(cause)
            return NotTrustedError(
                f"the certificate of {where} is not to be trusted: {why.rstrip('.')}; name whoever signed it with "
                "?ssl_ca_certs=FILE in the URL, and the server by a name that its certificate has"
            )
        cause = cause.__context__
    if isinstance(exc, TimeoutError | exceptions.TimeoutError):
        return NotConnectedError(f"{where} did not answer while we were connecting")
    return NotConnectedError(f"{exc}" if where in str(exc) else f"{exc} ({where}, while we were connecting)")
