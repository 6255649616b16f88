"""What each role may do in Redis, and no more: commands by kind of key, scripts, channels; and that as an ACL file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from toolspan.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Role:
    """What one role may do. *keys* is kind of key (the word behind the prefix) to the commands that may touch it.

    *scripted* are the kinds that scripts get as KEYS; what a script then does to them is checked like any command.
    """

    free: str
    """Commands without a key."""
    scripted: str
    keys: Mapping[str, str]
    publishes: str = ""
    subscribes: str = ""
    """Kinds of channels to which it listens one by one."""
    overhears: str = ""
    """Kinds to all of whose channels it listens, through a pattern."""


_ALL: Final = "ping select role time script|load"
# Whoever may be elected to report the group: it measures.
_REPORTER: Final = {
    "stream": "type xlen xrange xpending xinfo|groups xinfo|consumers",
    "dlq": "type xlen",
    "workers": "type zrange",
    "worker": "type hget hmget",
    "parked": "type zcard",
    "monitor": "get set pexpire del",
    "control": "type hkeys",
}
# Those of them that nobody can reach from outside look at the dead letters, and purge those that are too old.
_PURGER: Final = {"dlq": f"{_REPORTER['dlq']} xrange xrevrange xtrim xdel", "audit": "xadd xdel"}

ROLES: Final[Mapping[str, Role]] = {
    "gateway": Role(
        f"{_ALL} wait",
        "stream dlq workers worker parked monitor control once cancel",
        {
            **_REPORTER,
            "stream": f"{_REPORTER['stream']} xadd",
            "parked": f"{_REPORTER['parked']} zadd",
            "reply": "xread xtrim del",
            "schema": "mget",
            "streams": "smembers",
            "once": "get set",
            "cancel": "set del",
            "control": f"{_REPORTER['control']} hgetall",
        },
        publishes="cancel",
        subscribes="once",
    ),
    "worker": Role(
        f"{_ALL} wait multi exec",
        "stream reply dlq workers worker parked attempts events audit monitor once cancel slots rate streams control",
        {
            "stream": (
                f"{_REPORTER['stream']} xreadgroup xack xclaim xdel exists xinfo|stream xgroup|create "
                "xgroup|delconsumer"
            ),
            "reply": "xadd xlen expire",
            "dlq": f"{_PURGER['dlq']} xadd",
            "workers": f"{_REPORTER['workers']} zadd zcard zscore zrem",
            "worker": f"{_REPORTER['worker']} hset hexists pexpire del",
            "parked": f"{_REPORTER['parked']} zadd zrem zrangebyscore",
            "attempts": "hget hmget hset hdel hscan",
            "events": "xadd",
            "audit": _PURGER["audit"],
            "monitor": _REPORTER["monitor"],
            "schema": "set",
            "streams": "sadd srem",
            "once": "get set del",
            "cancel": "mget",
            "slots": "zadd zrem zcard zscore zremrangebyscore pttl pexpire",
            "rate": "get set",
            "control": f"{_REPORTER['control']} hgetall hsetnx hdel",
        },
        publishes="once workers",
        subscribes="control workers",
        overhears="cancel",
    ),
    "monitor": Role(_ALL, "stream dlq workers worker parked audit monitor control", {**_REPORTER, **_PURGER}),
    "operator": Role(
        # The last ones are the doctor's. CONFIG GET is not among them: it tells passwords.
        f"{_ALL} multi exec info acl|whoami acl|dryrun",
        "stream dlq workers worker parked audit events control",
        {
            "stream": "type xlen xrange xrevrange xpending xinfo|groups xinfo|consumers xadd",
            "dlq": "type xlen xrange xrevrange xtrim xdel",
            "reply": "xread xtrim del",
            "events": "type xadd xrange xrevrange",
            "audit": "type xadd xdel xrange xrevrange",
            "attempts": "type hget",
            "parked": "type zcard zscore zscan zadd",
            "workers": "type zrange zscore",
            "worker": "type hget hmget",
            "schema": "mget",
            "streams": "type smembers",
            "monitor": "type",
            "control": "type hkeys hget hexists hset hdel hgetall",
        },
        publishes="control",
    ),
}
"""Every role, and what it may do."""

_SUBSCRIBING: Final = ("+psubscribe", "+punsubscribe", "+subscribe", "+unsubscribe")
_READING: Final = (
    "exists get hexists hget hgetall hkeys hmget hscan mget pttl smembers type xinfo|consumers xinfo|groups "
    "xinfo|stream xlen xpending xrange xread xrevrange zcard zcount zrange zrangebyscore zscan zscore"
)
"""For these a key pattern with %R~ is enough."""

_WRITING: Final = (
    "del expire hdel hset hsetnx pexpire sadd set srem xack xadd xdel xgroup|create xgroup|delconsumer xtrim zadd zrem "
    "zremrangebyscore"
)
"""For these one with %W~; what does both is in neither."""


@dataclass(frozen=True, slots=True)
class User:
    """A user of Redis for one role. *rules* is what `ACL SETUSER` takes, but for a password."""

    name: str
    role: str
    rules: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """The user's line in an ACL file. Its password is a placeholder with which no server starts."""
        return f"user {self.name} {' '.join(self.rules)} on #sha256-of-the-password-of-{self.name}"

    def as_json(self) -> dict[str, Any]:
        """Give the same for machines."""
        return {"user": self.name, "role": self.role, "rules": self.rules}


def users(prefix: str) -> list[User]:
    """Give a user for each role, for the plane under *prefix*."""
    return [User(f"toolspan-{name}", name, _rules(role, prefix)) for name, role in ROLES.items()]


def acl_file(prefix: str) -> str:
    """Give an ACL file: a user for each role, and nobody else."""
    return "".join(f"{line}\n" for line in ("user default off", *(user.line for user in users(prefix))))


def _rules(role: Role, prefix: str) -> list[str]:
    """Give the commands without keys, and selectors: a command is allowed by one of them as a whole."""
    heard = [*role.overhears.split(), *role.subscribes.split()]
    scripts = ["+evalsha", *(f"~{pattern(prefix, kind)}" for kind in role.scripted.split())]
    selectors = [
        scripts,
        *([*_allowed(commands), _key(prefix, kind, commands)] for kind, commands in role.keys.items()),
        *(["+publish", f"&{pattern(prefix, kind)}"] for kind in role.publishes.split()),
        [*_SUBSCRIBING, *(f"&{pattern(prefix, kind)}" for kind in heard)] if heard else [],
    ]
    return ["reset", *_allowed(role.free), *(f"({' '.join(selector)})" for selector in selectors if selector)]


def _allowed(commands: str) -> list[str]:
    return [f"+{command}" for command in sorted(set(commands.split()))]


def _key(prefix: str, kind: str, commands: str) -> str:
    asked = set(commands.split())
    access = "%R~" if asked <= set(_READING.split()) else "%W~" if asked <= set(_WRITING.split()) else "~"
    return f"{access}{pattern(prefix, kind)}"


def pattern(prefix: str, kind: str) -> str:
    """Give the pattern of all keys, or channels, of a kind."""
    # The one key of its kind has no name behind it.
    return Keys(prefix).streams if kind == "streams" else f"{prefix}:{kind}:*"
