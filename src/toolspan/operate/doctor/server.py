"""The server: version, memory, persistence, limits of clients, clock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from toolspan.errors import StoreError
from toolspan.operate.doctor.findings import Finding, ok, problem, unknown, warn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolspan.keys import Keys
    from toolspan.store.server import ServerReader

_OLDEST: Final = {"Redis": (7, 0), "Valkey": (8, 0)}
_FULL: Final = 0.95
_NEARLY_FULL: Final = 0.8
_CLOCK_OFF_MS: Final = 1_000
_CLOCK_WRONG_MS: Final = 30_000
_MIB: Final = 1 << 20
_SMALLEST_BUFFER: Final = 64 * _MIB
"""A read of many replies must fit into what the server keeps for a client."""

_SETTINGS: Final = ("timeout", "client-output-buffer-limit", "appendfsync", "save")


async def server(reader: ServerReader, keys: Keys) -> list[Finding]:
    """Check the server, by what INFO tells, and by its settings where it gives them away.

    Raises:
        StoreError: if it does not tell anything.
    """
    info = await reader.info()
    try:
        config: Mapping[str, str] | None = await reader.config(*_SETTINGS)
    except StoreError:
        config = None
    return [
        _version(info),
        *_serving(info, keys),
        _eviction(info),
        _memory(info),
        _persistence(info, config),
        *(_clients(config) if config else [unknown("clients", "the server does not give its settings away")]),
    ]


async def clock(reader: ServerReader) -> list[Finding]:
    """Compare our clock with Redis'."""
    ahead_ms = await reader.clock_ahead_ms()
    seconds = f"{abs(ahead_ms) / 1000:.1f} s {'ahead of' if ahead_ms > 0 else 'behind'} Redis'"
    if abs(ahead_ms) <= _CLOCK_OFF_MS:
        return [ok("clock", "our clock and Redis' agree to within a second")]
    message = f"our clock is {seconds}: deadlines hold, for they go by Redis' clock, but traces and logs do not line up"
    look = warn if abs(ahead_ms) <= _CLOCK_WRONG_MS else problem
    return [look("clock", message, "let both machines follow the same time: timedatectl set-ntp true")]


def _version(info: Mapping[str, str]) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version", "")
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None:
        return unknown("version", "the server does not say which version it is")
    if (int(numbers[1]), int(numbers[2])) < _OLDEST[name]:
        oldest = ".".join(map(str, _OLDEST[name]))
        return problem("version", f"{name} {version} is too old", f"upgrade to {name} {oldest} or later")
    return ok("version", f"{name} {version}")


def _serving(info: Mapping[str, str], keys: Keys) -> list[Finding]:
    found = []
    if info.get("role") == "slave":
        found.append(
            problem("role", "this is a replica, which takes no writes", "point TOOLSPAN_REDIS_URL at the primary")
        )
    elif int(info.get("connected_slaves", 0)):
        message = "replicas follow asynchronously: a failover may forget the last moments, calls and outcomes of them"
        found.append(ok("role", message))
    if info.get("cluster_enabled") == "1" and not re.search(r"\{[^}]+\}", keys.prefix):
        message = f"this is a cluster, and the keys of the prefix {keys.prefix} lie in many slots: scripts are refused"
        found.append(problem("cluster", message, f"export TOOLSPAN_PREFIX='{{{keys.prefix}}}'"))
    return found


def _eviction(info: Mapping[str, str]) -> Finding:
    policy = info.get("maxmemory_policy")
    if policy is None:
        return unknown("eviction", "the server does not say what it does when it is full")
    if policy == "noeviction":
        return ok("eviction", "a full server refuses new calls, and evicts nothing")
    message = f"a full server evicts keys ({policy}): registrations and replies go, or the stream with all calls"
    return problem("eviction", message, "CONFIG SET maxmemory-policy noeviction")


def _memory(info: Mapping[str, str]) -> Finding:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if not used:
        return unknown("memory", "the server does not say how much it uses")
    if not most:
        message = f"{used // _MIB} MiB are used, without a limit: a backlog may take all memory of the machine"
        return warn("memory", message, "CONFIG SET maxmemory 2gb, or what the machine can spare")
    message = f"{used // _MIB} of {most // _MIB} MiB are used, {used / most:.0%}"
    if used >= most * _FULL:
        return problem(
            "memory", f"{message}: new calls are, or soon will be, refused", f"CONFIG SET maxmemory {most * 2}"
        )
    if used >= most * _NEARLY_FULL:
        return warn("memory", message, f"CONFIG SET maxmemory {most * 2}")
    return ok("memory", message)


def _persistence(info: Mapping[str, str], config: Mapping[str, str] | None) -> Finding:
    if "aof_enabled" not in info:
        return unknown("persistence", "the server does not say what it writes to disk")
    if info.get("aof_last_write_status", "ok") != "ok":
        return problem("persistence", "the last write to the append-only file failed", "free disk space on the server")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        message = "the last snapshot failed, and by its defaults the server then refuses writes"
        return problem("persistence", message, "free disk space or memory on the server, then BGSAVE")
    if info["aof_enabled"] == "1":
        return _synced(None if config is None else config.get("appendfsync"))
    lost = "everything" if config is not None and config.get("save") == "" else "everything since the last snapshot"
    message = f"there is no append-only file: when Redis restarts, {lost} is forgotten, waiting calls with it"
    return problem("persistence", message, "CONFIG SET appendonly yes, then CONFIG REWRITE")


def _synced(fsync: str | None) -> Finding:
    if fsync is None:
        return unknown("persistence", "there is an append-only file; the server does not say how often it is synced")
    if fsync == "always":
        return ok("persistence", "every write is on disk before it is answered: a restart forgets nothing")
    lost = "the last second" if fsync == "everysec" else "whatever the system had not written yet"
    message = f"with appendfsync {fsync}, a crash of Redis' machine forgets {lost}: calls may be lost or run again"
    return warn("persistence", message, "CONFIG SET appendfsync always, if that matters more than speed")


def _clients(config: Mapping[str, str]) -> list[Finding]:
    found = []
    seconds = config.get("timeout", "0")
    if seconds != "0":
        message = (
            f"the server closes connections that are idle for {seconds} s: whoever sends a call then gets an error"
        )
        found.append(warn("timeout", message, "CONFIG SET timeout 0"))
    else:
        found.append(ok("timeout", "the server closes no idle connection"))
    limits = re.findall(r"(\w+) (\d+) (\d+) (\d+)", config.get("client-output-buffer-limit", ""))
    small = [(kind, int(hard)) for kind, hard, *_ in limits if kind == "normal" and 0 < int(hard) < _SMALLEST_BUFFER]
    if small:
        message = f"the server drops a client that has more than {small[0][1]} bytes to read: many replies are more"
        found.append(problem("buffers", message, "CONFIG SET client-output-buffer-limit 'normal 0 0 0'"))
    else:
        found.append(ok("buffers", "clients may be sent all that they ask for"))
    return found
