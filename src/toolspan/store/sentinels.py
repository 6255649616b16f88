"""Asking Sentinel which server is the primary, anew for every connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions

from toolspan.store.wires import (
    BlockingKind,
    Kind,
    NotConnectedError,
    NotTrustedError,
    PlainBlocking,
    PlainConnection,
    TLSBlocking,
    TLSConnection,
)

if TYPE_CHECKING:
    import redis
    import redis.asyncio

    _Asynchronous = redis.asyncio.Connection
    _Blocking = redis.Connection
else:
    _Asynchronous = _Blocking = object

_ANSWER_SECONDS: Final = 1.0
"""How long one Sentinel may take: the next one may be there."""

_QUESTION: Final = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME")


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Several Sentinels that watch one *service*; *options* say how they are reached, and as whom."""

    service: str
    addresses: tuple[tuple[str, int], ...]
    kind: Kind
    blocking_kind: BlockingKind
    options: dict[str, Any] = field(default_factory=dict)

    async def primary(self) -> tuple[str, int]:
        """Ask one after the other where the primary is.

        Raises:
            NotConnectedError: if none of them knows one.
        """
        problems: list[str] = []
        for host, port in self.addresses:
            connection: Any = self.kind(**self._options(host, port))
            try:
                await connection.connect()
                await connection.send_command(*_QUESTION, self.service)
                answer = await connection.read_response()
            except (exceptions.RedisError, OSError) as exc:
                problems.append(_problem(exc, host, port))
                continue
            finally:
                await connection.disconnect(nowait=True)
            if answer:
                return _address(answer)
            problems.append(f"{host}:{port} does not know it")
        raise self._unknown(problems)

    def primary_blocking(self) -> tuple[str, int]:
        """Do the same without asyncio."""
        problems: list[str] = []
        for host, port in self.addresses:
            connection: Any = self.blocking_kind(**self._options(host, port))
            try:
                connection.connect()
                connection.send_command(*_QUESTION, self.service)
                answer = connection.read_response()
            except (exceptions.RedisError, OSError) as exc:
                problems.append(_problem(exc, host, port))
                continue
            finally:
                connection.disconnect()
            if answer:
                return _address(answer)
            problems.append(f"{host}:{port} does not know it")
        raise self._unknown(problems)

    def _options(self, host: str, port: int) -> dict[str, Any]:
        limits = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _ANSWER_SECONDS}
        return {"host": host, "port": port, "protocol": 2, "driver_info": None, **limits, **self.options}

    def _unknown(self, problems: list[str]) -> NotConnectedError:
        return NotConnectedError(f"no Sentinel names the primary of {self.service}: {'; '.join(problems)}")


def _address(answer: list[bytes]) -> tuple[str, int]:
    host, port = answer
    return host.decode(), int(port)


def _problem(exc: Exception, host: str, port: int) -> str:
    told = str(exc)
    return told if f"{host}:{port}" in told or isinstance(exc, NotTrustedError) else f"{host}:{port}: {told}"


class _Primary(_Asynchronous):
    """A connection to whoever is the primary at the moment it is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self.sentinels = sentinels
        super().__init__(**options)

    async def _connect(self) -> None:
        self.host, self.port = await self.sentinels.primary()
        await super()._connect()  # type: ignore[no-untyped-call]

    def _hear(self, answer: Any) -> None:
        _refuse_unless_primary(answer, self._host_error())


class _PrimaryBlocking(_Blocking):
    """The same without asyncio."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self.sentinels = sentinels
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self.host, self.port = self.sentinels.primary_blocking()
        return super()._connect()  # type: ignore[no-untyped-call]

    def _hear(self, answer: Any) -> None:
        _refuse_unless_primary(answer, self._host_error())  # type: ignore[no-untyped-call]


def _refuse_unless_primary(role: Any, where: str) -> None:
    # Sentinels hear late of a failover, too: what one of them names need not be the primary any more.
    if role[0] != b"master":
        message = f"{where} is not the primary, although Sentinel says so"
        raise NotConnectedError(message)


class _PlainPrimary(_Primary, PlainConnection):
    pass


class _TLSPrimary(_Primary, TLSConnection):
    pass


class _PlainPrimaryBlocking(_PrimaryBlocking, PlainBlocking):
    pass


class _TLSPrimaryBlocking(_PrimaryBlocking, TLSBlocking):
    pass


THROUGH_SENTINEL: Final[dict[Kind, tuple[Kind, BlockingKind]]] = {
    PlainConnection: (_PlainPrimary, _PlainPrimaryBlocking),
    TLSConnection: (_TLSPrimary, _TLSPrimaryBlocking),
}
"""A kind of ours, and what it is where Sentinel has to be asked first."""
