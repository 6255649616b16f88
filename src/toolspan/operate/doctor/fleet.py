"""The stream, its group and its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from toolspan.operate.consumers import consumers
from toolspan.operate.doctor.findings import Finding, ok, problem, warn
from toolspan.operate.status import status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.operate.consumers import Consumer
    from toolspan.operate.status import Status
    from toolspan.settings import Settings
    from toolspan.store import Connection, WorkerInfo
    from toolspan.store.server import ServerReader

_OLD_SECONDS: Final = 60.0
_LONG_STREAM: Final = 100_000
_MANY_LETTERS: Final = 10_000


async def kinds(reader: ServerReader, settings: Settings) -> list[Finding]:
    """Check that nothing but what is ours lies under our keys."""
    keys = settings.keys
    expected = {
        **dict.fromkeys((keys.calls, keys.dead_letters, keys.events, keys.audit), "stream"),
        **dict.fromkeys((keys.workers, keys.parked), "zset"),
        **dict.fromkeys((keys.attempts, keys.control), "hash"),
        keys.streams: "set",
        keys.monitor: "string",
    }
    strangers = await reader.strangers(expected)
    if not strangers:
        return [ok("keys", f"under {keys.prefix}: lies nothing that is not ours")]
    return [
        problem("keys", f"{key} holds a {kind} and should be a {expected[key]}", f"RENAME {key} {key}:not-ours")
        for key, kind in strangers.items()
    ]


async def fleet(connection: Connection, reader: ServerReader, settings: Settings) -> list[Finding]:
    """Check the group, its workers, what waits and what was left."""
    found, known = await status(connection, settings), await consumers(connection, settings)
    live = [one.worker for one in known if one.state in {"live", "draining"} and one.worker]
    return [
        _group(found),
        *_waiting(found),
        *_workers(live, settings),
        *_orphans(known, live, settings),
        *await _parked(reader, live),
        *await _sizes(reader, settings),
        *(
            warn("paused", f"calls of {one.tool} wait until it is resumed", f"toolspan resume {one.tool}")
            for one in found.paused
        ),
    ]


def _group(found: Status) -> Finding:
    if found.group:
        return ok("group", "the consumer group is there")
    if found.undelivered:
        message = f"there is no consumer group, and {found.undelivered} calls wait for the first worker, which makes it"
        return warn("group", message, "toolspan worker --tools MODULE")
    return ok("group", "there is no consumer group yet: the first worker makes it")


def _waiting(found: Status) -> list[Finding]:
    waiting = sum(figure or 0 for figure in (found.undelivered, found.pending, found.parked))
    if not found.live_workers:
        if waiting:
            message = f"no live worker, and {waiting} calls wait"
            return [problem("workers", message, "toolspan worker --tools MODULE")]
        return [warn("workers", "no live worker: calls would wait for one", "toolspan worker --tools MODULE")]
    age = found.oldest_undelivered_age
    if age is not None and age > _OLD_SECONDS:
        message = f"{found.undelivered} calls wait to be read, the oldest for {age:.0f} s: the workers do not keep up"
        return [warn("lag", message, "start more workers, or raise TOOLSPAN_CONCURRENCY")]
    return [ok("lag", f"{found.undelivered} calls wait to be read, and {found.live_workers} workers are live")]


def _workers(live: Sequence[WorkerInfo], settings: Settings) -> list[Finding]:
    findings = []
    leases = sorted({worker.lease_ms for worker in live})
    if len(leases) > 1:
        message = f"live workers run with different leases, {' and '.join(map(str, leases))} ms"
        fix = "set TOOLSPAN_LEASE_MS to the same for all of them, and start them again"
        findings.append(problem("leases", message, fix))
    elif leases and leases[0] != settings.lease_ms:
        message = f"live workers run with a lease of {leases[0]} ms, and we are set to {settings.lease_ms}"
        findings.append(problem("leases", message, f"export TOOLSPAN_LEASE_MS={leases[0]}"))
    versions = sorted({worker.version for worker in live})
    if len(versions) > 1:
        message = f"live workers are of different versions: {', '.join(versions)}"
        findings.append(warn("versions", message, "finish the deployment; `toolspan consumers` shows who is behind"))
    protocols = sorted({worker.protocol for worker in live})
    if len(protocols) > 1:
        message = f"live workers read different versions of the protocol: {', '.join(map(str, protocols))}"
        findings.append(warn("versions", message, "finish the deployment before callers use the newer one"))
    if live and not findings:
        findings.append(ok("leases", "live workers have one lease and one version"))
    return findings


def _orphans(known: Sequence[Consumer], live: Sequence[WorkerInfo], settings: Settings) -> list[Finding]:
    left = [one for one in known if one.state in {"silent", "unregistered", "unreadable"} and one.pending]
    if not left:
        return [ok("orphans", "nobody who is gone holds a call")]
    count = sum(one.pending or 0 for one in left)
    message = f"{count} calls are held by {len(left)} consumers that are gone, {left[0].name} for one"
    if live:
        fix = f"look again in {settings.lease_ms / 1000:g} s: toolspan consumers"
        return [warn("orphans", f"{message}; live workers claim them a lease after their last renewal", fix)]
    return [problem("orphans", f"{message}, and no live worker claims them", "toolspan worker --tools MODULE")]


async def _parked(reader: ServerReader, live: Sequence[WorkerInfo]) -> list[Finding]:
    lost = await reader.parked_without_due_time()
    if not lost:
        return [ok("parked", "every parked call has its due time")]
    message = f"{lost} parked calls have no due time, for somebody deleted it"
    if live:
        return [warn("parked", f"{message}: a worker makes them due within a minute", "toolspan status, in a minute")]
    return [problem("parked", f"{message}, and no live worker makes them due", "toolspan worker --tools MODULE")]


async def _sizes(reader: ServerReader, settings: Settings) -> list[Finding]:
    calls, letters = await reader.sizes()
    findings = []
    if calls > _LONG_STREAM:
        message = f"the stream has {calls} entries, and each takes memory until it is settled"
        findings.append(warn("stream", message, "toolspan status, and more workers"))
    if letters > _MANY_LETTERS and settings.dlq_retention_days is None:
        message = f"{letters} dead letters lie there, and are kept for ever"
        fix = "toolspan dlq ls --group-by fingerprint, then toolspan dlq purge --older-than 30d"
        findings.append(warn("dead letters", message, fix))
    elif letters:
        message = f"{letters} dead letters wait for somebody to decide"
        findings.append(warn("dead letters", message, "toolspan dlq ls --group-by fingerprint"))
    return findings or [ok("sizes", f"the stream has {calls} entries, and there is no dead letter")]
