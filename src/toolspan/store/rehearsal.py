"""What a role does in Redis as commands, for the server to say which of them it would let through: none is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from toolspan.store.permissions import ROLES, pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

# A server judges only what has as many words as the command needs, and its keys where they belong.
_FORMS: Final = {
    "acl|dryrun": "default PING",
    "acl|whoami": "",
    "exec": "",
    "info": "",
    "multi": "",
    "ping": "",
    "role": "",
    "script|load": "x",
    "select": "0",
    "time": "",
    "wait": "0 0",
    **dict.fromkeys(
        (
            "del",
            "exists",
            "get",
            "hgetall",
            "hkeys",
            "mget",
            "smembers",
            "type",
            "xinfo|groups",
            "xinfo|stream",
            "xlen",
            "zcard",
            "pttl",
        ),
        "KEY",
    ),
    **dict.fromkeys(("expire", "hdel", "hexists", "hget", "hmget", "hscan", "pexpire", "sadd", "set", "srem"), "KEY 1"),
    **dict.fromkeys(("xdel", "xinfo|consumers", "xpending", "zrem", "zscan", "zscore"), "KEY 1"),
    **dict.fromkeys(
        ("hset", "hsetnx", "xack", "xgroup|create", "xgroup|delconsumer", "xrange", "xrevrange"), "KEY 1 2"
    ),
    **dict.fromkeys(("zadd", "zcount", "zrange", "zrangebyscore", "zremrangebyscore"), "KEY 1 2"),
    "xadd": "KEY * field value",
    "xclaim": "KEY group consumer 0 0-0",
    "xread": "COUNT 1 STREAMS KEY 0",
    "xreadgroup": "GROUP group consumer COUNT 1 STREAMS KEY >",
    "xtrim": "KEY MAXLEN 0",
}


def rehearsal(name: str, prefix: str) -> Iterator[list[str]]:
    """Give everything that the role of this *name* does, on keys and channels as they may be under *prefix*."""
    role = ROLES[name]
    for command in role.free.split():
        yield _spelt(command)
    for kind, commands in role.keys.items():
        for command in commands.split():
            yield _spelt(command, _example(prefix, kind))
    scripted = [_example(prefix, kind) for kind in role.scripted.split()]
    yield ["EVALSHA", "0", str(len(scripted)), *scripted]
    for kind in role.publishes.split():
        yield ["PUBLISH", _example(prefix, kind), "x"]
    for kind in role.subscribes.split():
        yield ["SUBSCRIBE", _example(prefix, kind)]
        yield ["UNSUBSCRIBE", _example(prefix, kind)]
    for kind in role.overhears.split():
        yield ["PSUBSCRIBE", pattern(prefix, kind)]


def channels(name: str, prefix: str) -> list[str]:
    """Give the patterns of the channels of a role. Who listens through one needs just that: a wider one will not do."""
    role = ROLES[name]
    kinds = (*role.publishes.split(), *role.overhears.split(), *role.subscribes.split())
    return [pattern(prefix, kind) for kind in dict.fromkeys(kinds)]


def _example(prefix: str, kind: str) -> str:
    return pattern(prefix, kind).replace("*", "doctor")


def _spelt(command: str, key: str = "") -> list[str]:
    rest = (key if word == "KEY" else word for word in _FORMS[command].split())
    return [*command.upper().split("|"), *rest]
