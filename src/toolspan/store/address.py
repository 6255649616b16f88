"""Where Redis is: what a URL, or a client that somebody brings along, says of it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError

from toolspan.errors import SettingsError
from toolspan.store.sentinels import THROUGH_SENTINEL, Sentinels
from toolspan.store.wires import OURS, BlockingKind, Kind, PlainConnection, TLSConnection

if TYPE_CHECKING:
    import redis.asyncio

_SENTINEL_PORT: Final = 26379
_UNREADABLE: Final = (
    "TOOLSPAN_REDIS_URL cannot be read: is its port a number, are its options known, and is what is special in its "
    "password written as %XX?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """One Redis: the kinds of connections that reach it, and what they are made with."""

    kind: Kind
    blocking_kind: BlockingKind
    target: dict[str, Any]

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a URL: redis, rediss, unix, redis+sentinel or rediss+sentinel.

        Raises:
            SettingsError: if it cannot be read, or its certificates cannot.
        """
        try:
            scheme, plus, rest = url.partition("+sentinel://")
            address = _sentinel(scheme, rest) if plus else _direct(url)
        except (ValueError, TypeError):
            # The reason would quote what was taken for a port or a host: it may be the password.
            raise SettingsError(_UNREADABLE) from None
        _refuse_bad_certificates(address)
        return address

    @classmethod
    def like(cls, pool: redis.asyncio.ConnectionPool) -> Address:
        """Give where the connections of *pool* lead.

        Raises:
            SettingsError: if that is not one server, or is reached in a way that we cannot.
        """
        if isinstance(pool, SentinelConnectionPool):
            message = "a client that asks Sentinel for its server does not say which one: give one that names it"
            raise SettingsError(message)
        made = pool.connection_class
        target = {name: value for name, value in pool.connection_kwargs.items() if _names_the_server(name)}
        for kind, (ours, blocking) in OURS.items():
            if issubclass(made, kind):
                return cls(ours, blocking, target)
        message = (
            f"a client with connections of the kind {made.__name__}: only TCP, TLS and Unix sockets are known here"
        )
        raise SettingsError(message)

    @property
    def told(self) -> tuple[str, int | None]:
        """Host and port; a socket's path and None; or the service that Sentinel is asked for, and None."""
        path, sentinels = self.target.get("path"), self.target.get("sentinels")
        if sentinels is not None:
            return sentinels.service, None
        if path is not None:
            return str(path), None
        return str(self.target.get("host", "localhost")), int(self.target.get("port", 6379))


def _names_the_server(option: str) -> bool:
    """Whether an option says which server, and as whom, rather than how to talk to it, which is ours to say."""
    return option.startswith("ssl_") or option in {
        "host", "port", "path", "db", "username", "password", "credential_provider", "socket_keepalive",
    }  # fmt: skip


def _direct(url: str) -> Address:
    options: dict[str, Any] = dict(parse_url(url))
    kind, blocking = OURS[options.pop("connection_class", None) or _PLAIN]
    return Address(kind, blocking, {name: value for name, value in options.items() if _names_the_server(name)})


_PLAIN: Final = next(theirs for theirs, (ours, _) in OURS.items() if ours is PlainConnection)


def _sentinel(scheme: str, rest: str) -> Address:
    """Read what follows `redis+sentinel://`: [user:password@]host[:port],…/service[/db][?options]."""
    if scheme not in {"redis", "rediss"}:
        raise ValueError(scheme)
    before, question, query = rest.partition("?")
    authority, _, path = before.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    service, _, db = path.partition("/")
    addresses = tuple(map(_host_and_port, hosts.split(",")))
    if not service:
        message = "TOOLSPAN_REDIS_URL names no service of Sentinel: redis+sentinel://host:26379,host:26379/SERVICE/0"
        raise SettingsError(message)
    # The rest is read as for a single server; what is Sentinel's own is told by its prefix.
    options: dict[str, Any] = dict(parse_url(f"{scheme}://{credentials}{at}{service}/{db}{question}{query}"))
    kind, blocking = OURS[options.pop("connection_class", None) or _PLAIN]
    theirs = {
        name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
    }
    target = {n: v for n, v in options.items() if _names_the_server(n) and n not in {"host", "port", "path"}}
    tls = {name: value for name, value in target.items() if name.startswith("ssl_")}
    sentinels = Sentinels(service, addresses, kind, blocking, {**theirs, **tls})
    return Address(*THROUGH_SENTINEL[kind], {**target, "sentinels": sentinels})


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(text)
    return parts.hostname, parts.port or _SENTINEL_PORT


def _refuse_bad_certificates(address: Address) -> None:
    """Read the certificates now: met at the first connection, a wrong path would look like a server that is away."""
    options = {n.removeprefix("ssl_"): v for n, v in address.target.items() if n.startswith("ssl_")}
    if not options:
        return
    if not issubclass(address.kind, TLSConnection):
        message = "TOOLSPAN_REDIS_URL has options of TLS, and does not ask for it: write rediss:// instead of redis://"
        raise SettingsError(message)
    try:
        RedisSSLContext(**{"cert_reqs": "required", **options}).get()
    except (OSError, ssl.SSLError, RedisError, ValueError, TypeError, AttributeError) as exc:
        unknown = "an option is not known" if isinstance(exc, TypeError) else "a value is none of those that there are"
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else unknown
        named = [f"ssl_{name}={options[name]}" if name in _FILES else f"ssl_{name}" for name in sorted(options)]
        message = f"TOOLSPAN_REDIS_URL: its certificates cannot be used: {reason}; {' '.join(named)}"
        raise SettingsError(message) from None


_FILES: Final = ("ca_certs", "ca_path", "certfile", "keyfile")
