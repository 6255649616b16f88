"""What an error of Redis means to us, and how we connect."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import redis
from redis import exceptions

from toolspan.errors import (
    GroupMissingError,
    NotPermittedError,
    ServerFullError,
    SettingsError,
    StoreError,
    StoreUnavailableError,
    UntrustedServerError,
    WrongTypeError,
)
from toolspan.store import Connection
from toolspan.store.connection import translated
from toolspan.store.scripts import Script
from toolspan.store.wires import NotConnectedError, NotTrustedError

ALL = [
    error
    for _, error in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(error, Exception) and error.__module__ == exceptions.__name__
]


def _translation(error: Exception) -> StoreError:
    with pytest.raises(StoreError) as raised, translated():
        raise error
    return raised.value


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_of_the_client_is_translated(error: type[Exception]) -> None:
    # Those of a cluster take the slot and the address apart.
    raised = error("1 127.0.0.1:6379")

    assert _translation(raised).__cause__ is raised


@pytest.mark.parametrize(
    ("raised", "meant", "maybe_ran"),
    [
        (exceptions.ConnectionError("Connection closed by server."), StoreUnavailableError, True),
        (NotConnectedError("Error 111 connecting to here:1. Refused."), StoreUnavailableError, False),
        (NotTrustedError("the certificate of here:1 is not to be trusted"), UntrustedServerError, False),
        (exceptions.MaxConnectionsError("max number of clients reached"), StoreUnavailableError, False),
        (exceptions.TimeoutError("Timeout reading from socket"), StoreUnavailableError, True),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), StoreUnavailableError, False),
        (ConnectionResetError("reset"), StoreUnavailableError, True),
        (BrokenPipeError("pipe"), StoreUnavailableError, True),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), StoreUnavailableError, False),
        (exceptions.ResponseError("READONLY You can't write"), StoreUnavailableError, False),
        (exceptions.ResponseError("LOADING Redis is loading"), StoreUnavailableError, False),
        (exceptions.ResponseError("MASTERDOWN Link with MASTER is down"), StoreUnavailableError, False),
        (exceptions.ResponseError("BUSY Redis is busy running a script"), StoreUnavailableError, False),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file"), StoreUnavailableError, False),
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas"), StoreUnavailableError, False),
        (exceptions.ClusterDownError("CLUSTERDOWN Hash slot not served"), StoreUnavailableError, False),
        (exceptions.TryAgainError("TRYAGAIN"), StoreUnavailableError, False),
        (exceptions.OutOfMemoryError("command not allowed"), ServerFullError, None),
        (exceptions.ResponseError("OOM command not allowed"), ServerFullError, None),
        (exceptions.ResponseError("NOGROUP No such key"), GroupMissingError, None),
        (exceptions.ResponseError("UNBLOCKED the stream key no longer exists"), GroupMissingError, None),
        (exceptions.ResponseError("no such key"), GroupMissingError, None),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), WrongTypeError, None),
        (exceptions.AuthenticationError("invalid username-password pair"), StoreError, None),
        (exceptions.NoPermissionError("this user has no permissions"), NotPermittedError, None),
        (exceptions.ResponseError("UNBLOCKED force unblock from blocking operation"), StoreUnavailableError, False),
        (exceptions.ResponseError("BUSYGROUP Consumer Group name already exists"), StoreError, None),
        (exceptions.ResponseError("ERR what we have not thought of"), StoreError, None),
    ],
    ids=lambda value: str(value) if isinstance(value, Exception) else "",
)
def test_an_error_says_what_it_means_to_us(raised: Exception, meant: type[StoreError], maybe_ran: bool | None) -> None:
    error = _translation(raised)

    assert type(error) is meant
    assert str(error) == str(raised)
    assert getattr(error, "maybe_ran", None) is maybe_ran


def test_a_bug_of_ours_is_not_hidden_as_an_error_of_redis() -> None:
    with pytest.raises(KeyError), translated():
        raise KeyError


def test_an_address_that_cannot_be_read_is_a_setting_to_change() -> None:
    with pytest.raises(SettingsError, match="TOOLSPAN_REDIS_URL"):
        Connection.to("redis://here:port/0")


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:se/cret@host/0",
        "redis://user:secret@[::1/0",
        "redis://user:secret@host:cret/0",
        "redis://user:secret@host?db=secret&socket_timeout=secret",
        "secret://user:secret@host",
        "secret",
    ],
)
def test_no_part_of_an_address_that_cannot_be_read_is_repeated(url: str) -> None:
    with pytest.raises(SettingsError) as raised:
        Connection.to(url)

    assert "cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


async def test_the_address_is_told_as_far_as_it_is_known() -> None:
    assert Connection.to("redis://:secret@there:7/2").address == ("there", 7)
    assert Connection.to("redis://").address == ("localhost", 6379)
    assert Connection.to("unix:///run/redis.sock?db=0").address == ("/run/redis.sock", None)


async def test_a_client_that_is_brought_along_only_says_where_the_server_is() -> None:
    theirs = redis.asyncio.Redis(host="there", port=7, db=2, decode_responses=True, socket_timeout=0.1)
    made = Connection.like(theirs)
    options = made.commands.connection_pool.connection_kwargs

    assert (options["host"], options["port"], options["db"]) == ("there", 7, 2)
    assert (options["decode_responses"], options["socket_timeout"]) == (False, 10)


@pytest.mark.parametrize(
    "kind", [redis.asyncio.Connection, redis.asyncio.SSLConnection, redis.asyncio.UnixDomainSocketConnection]
)
async def test_a_client_may_have_connections_of_its_own_making(kind: Any) -> None:
    pool = redis.asyncio.ConnectionPool(type("Mine", (kind,), {}), username="ada")
    made = Connection.like(redis.asyncio.Redis(connection_pool=pool))
    clients: list[Any] = [made.commands, made.blocking(500), made.threaded(1)]

    assert issubclass(clients[0].connection_pool.connection_class, kind)
    assert issubclass(clients[1].connection_pool.connection_class, kind)
    assert issubclass(clients[2].connection_pool.connection_class, getattr(redis, kind.__name__))
    assert all(client.connection_pool.connection_kwargs["username"] == "ada" for client in clients)


async def test_a_client_whose_connections_we_cannot_make_is_refused() -> None:
    strange: Any = type("Strange", (redis.asyncio.connection.AbstractConnection,), {})
    theirs = redis.asyncio.Redis(connection_pool=redis.asyncio.ConnectionPool(strange))

    with pytest.raises(SettingsError, match="of the kind Strange"):
        Connection.like(theirs)


async def test_no_client_sends_a_command_twice() -> None:
    made = Connection.to("redis://there")
    clients: list[Any] = [made.commands, made.blocking(500), made.threaded(1)]
    pools = [client.connection_pool for client in clients]

    assert [pool.connection_kwargs["retry"].get_retries() for pool in pools] == [0, 0, 0]


async def test_a_blocking_read_is_given_longer_than_its_block() -> None:
    options = Connection.to("redis://there").blocking(30_000).connection_pool.connection_kwargs

    assert options["socket_timeout"] > 30


@pytest.mark.parametrize("values", [{"monitor": "m"}, {"monitor": "m", "me": "x", "ttl_ms": 1, "more": 2}])
def test_a_script_takes_the_names_of_its_header_and_no_others(values: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=r"elect\.lua takes \['me', 'monitor', 'ttl_ms'\]"):
        Script("elect").arguments(values)


def test_a_script_puts_its_values_in_the_order_of_its_header() -> None:
    values = {"fields": ["a", "b"], "timeout_ms": 5, "stream": "s"}

    assert Script("append").arguments(values) == [1, "s", 5, "a", "b"]
