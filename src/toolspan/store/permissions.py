"""What each role of ours does in Redis: the commands that its user must be allowed to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys

Role: TypeAlias = Literal["gateway", "worker", "monitor", "operator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

_CONNECTION = ("PING", "TIME", "TYPE stream")
_SCRIPTS = ("EVALSHA 0 1 stream", "SCRIPT LOAD x")
_REGISTRY = ("ZRANGE workers 0 -1 WITHSCORES", "HMGET worker host", "MGET schema")
_GROUP = (
    *("XINFO GROUPS stream", "XINFO CONSUMERS stream group", "XLEN stream", "XRANGE stream - +", "ZCARD parked"),
    *("ZCARD workers", "ZCOUNT workers 0 1", "ZSCORE workers x", "XLEN dlq", "XRANGE dlq - +", "HKEYS control"),
)
_EXCEPTIONS = ("XADD events * x y", "HGET attempts x", "HDEL attempts x", "XPENDING stream group")

_COMMANDS: Final[dict[Role, tuple[str, ...]]] = {
    "gateway": (
        *(*_CONNECTION, *_SCRIPTS, *_REGISTRY, "XADD stream * x y", "XREAD COUNT 1 STREAMS reply 0"),
        *("XTRIM reply MINID 0", "DEL reply", "HGETALL control", "XINFO GROUPS stream", "XLEN stream", "ZCARD parked"),
        *("GET once", "SET once x", "SUBSCRIBE once", "UNSUBSCRIBE once", "PUBLISH once x"),
        *("XRANGE stream - +", "XPENDING stream group"),
    ),
    "worker": (
        *(*_CONNECTION, *_SCRIPTS, *_REGISTRY, *_EXCEPTIONS, "XGROUP CREATE stream group 0 MKSTREAM"),
        *("XREADGROUP GROUP group x COUNT 1 STREAMS stream >", "XACK stream group 0-0", "XDEL stream 0-0"),
        *("XCLAIM stream group x 0 0-0", "XINFO GROUPS stream", "XINFO CONSUMERS stream group", "XRANGE stream - +"),
        *("XGROUP DELCONSUMER stream group x", "EXISTS stream", "XADD reply * x y", "EXPIRE reply 1", "XADD dlq * x y"),
        *("ZADD workers 1 x", "ZSCORE workers x", "ZREM workers x", "DEL worker", "PEXPIRE worker 1"),
        *("HSET worker x y", "HGET worker x", "HEXISTS worker x", "MULTI", "EXEC", "SADD streams x", "SET schema x"),
        *("ZADD parked 1 x", "ZREM parked x", "ZCARD parked", "ZRANGEBYSCORE parked 0 1", "HSET attempts x y"),
        *("HSCAN attempts 0", "HGETALL control", "HSETNX control x y", "HDEL control x", "SUBSCRIBE control"),
        *("GET once", "SET once x", "PUBLISH once x"),
    ),
    "monitor": (
        *(*_CONNECTION, *_SCRIPTS, *_REGISTRY, *_GROUP, "SET monitor x", "GET monitor", "DEL monitor"),
        *("PEXPIRE monitor 1", "XREVRANGE dlq + -", "XTRIM dlq MINID 0", "XDEL dlq 0-0", "XADD audit * x y"),
    ),
    "operator": (
        *(*_CONNECTION, *_SCRIPTS, *_REGISTRY, *_GROUP, "HGET attempts x", "ZSCORE parked x", "XPENDING stream group"),
        *("MULTI", "EXEC", "XREVRANGE stream + -", "XREVRANGE dlq + -", "XREVRANGE events + -", "XRANGE events - +"),
        *("XREVRANGE audit + -", "XRANGE audit - +", "XADD audit * x y", "XDEL audit 0-0", "XADD events * x y"),
        *("XADD stream * x y", "XDEL dlq 0-0", "XTRIM dlq MINID 0", "XREAD COUNT 1 STREAMS reply 0"),
        *("XTRIM reply MINID 0", "DEL reply", "HGETALL control", "HGET control x", "HEXISTS control x"),
        *("HSET control x y", "HDEL control x", "PUBLISH control x", "ZSCAN parked 0", "ZADD parked 1 x"),
        "ZREM parked x",
    ),
}


def commands(role: Role, keys: Keys) -> list[Sequence[str]]:
    """List the commands of *role*, each once, on the keys of a plane."""
    names = {
        "stream": keys.calls,
        "group": keys.group,
        "reply": keys.replies("doctor"),
        "dlq": keys.dead_letters,
        "workers": keys.workers,
        "worker": keys.worker("doctor"),
        "parked": keys.parked,
        "attempts": keys.attempts,
        "events": keys.events,
        "schema": keys.schema("doctor"),
        "streams": keys.streams,
        "once": keys.once("doctor"),
        "control": keys.control,
        "audit": keys.audit,
        "monitor": keys.monitor,
    }
    # A worker may be elected to measure the group.
    lines = _COMMANDS[role] + (_COMMANDS["monitor"] if role == "worker" else ())
    return [_spelt(line, names) for line in dict.fromkeys(lines)]


def _spelt(line: str, names: dict[str, str]) -> list[str]:
    """Put real keys where a name stands for one; the first words are the command's own."""
    parts = line.split()
    return [part if part.isupper() else names.get(part, part) for part in parts]
