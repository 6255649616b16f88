"""The operator's path: who is there, what is served, how much waits; never called per call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json

from toolspan.model import GroupSnapshot, ToolInfo
from toolspan.store.connection import translated
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_FIELDS: Final = ("host", "pid", "version", "protocol", "lease", "start", "concurrency", "tools")


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One registered worker. *silent_ms* is how long ago its last heartbeat was; times are Redis' clock in ms."""

    consumer: str
    silent_ms: int
    host: str
    pid: int
    version: str
    protocol: int
    lease_ms: int
    start_ms: int
    concurrency: int
    tools: dict[str, str]

    @property
    def live(self) -> bool:
        """Whether it was heard of within its lease."""
        return self.silent_ms < self.lease_ms


class Inspector:
    """Reads what the fleet tells of itself. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys
        self._snapshot = Script("snapshot")
        self._elect = Script("elect")
        self._resign = Script("resign")

    async def ping(self) -> None:
        """Make sure that Redis answers."""
        with translated():
            await cast("Any", self._redis.execute_command("PING"))

    async def workers(self) -> list[WorkerInfo]:
        """List the workers with a registration, dead ones too until they are reaped."""
        with translated():
            seconds, micros = await cast("Any", self._redis.execute_command("TIME"))
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            beats = await self._beats()
            pipeline = self._redis.pipeline(transaction=False)
            for name, _ in beats:
                pipeline.hmget(self._keys.worker(name.decode()), *_FIELDS)
            hashes = await pipeline.execute() if beats else []
        return [
            _worker(name.decode(), now_ms - int(beat), values)
            for (name, beat), values in zip(beats, hashes, strict=True)
            if None not in values
        ]

    async def _beats(self) -> list[tuple[bytes, float]]:
        beats: Any = await self._redis.zrange(self._keys.workers, 0, -1, withscores=True)
        return cast("list[tuple[bytes, float]]", beats)

    async def pending_by_consumer(self) -> dict[str, int]:
        """Tell how many entries are pending for each consumer that has any."""
        with translated():
            answer: Any = await self._redis.execute_command("XPENDING", self._keys.calls, self._keys.group)
        return {name.decode(): int(count) for name, count in answer[3] or ()}

    async def silent_consumers(self, silent_ms: int) -> list[str]:
        """Name the consumers and registrations that were not heard of for *silent_ms*, or never."""
        with translated():
            seconds, micros = await cast("Any", self._redis.execute_command("TIME"))
            since = int(seconds) * 1000 + int(micros) // 1000 - silent_ms
            beats = await self._beats()
            infos = await cast(
                "Any", self._redis.execute_command("XINFO CONSUMERS", self._keys.calls, self._keys.group)
            )
        heard = {name.decode(): beat for name, beat in beats}
        names = {info[1].decode(): info[3] for info in infos}
        silent = [name for name, pending in names.items() if not pending and heard.get(name, 0) <= since]
        return silent + [name for name, beat in heard.items() if name not in names and beat <= since]

    async def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers serve now, by name."""
        digests = {digest for worker in await self.workers() if worker.live for digest in worker.tools.values()}
        if not digests:
            return []
        with translated():
            raws = await self._redis.mget([self._keys.schema(digest) for digest in sorted(digests)])
        found = {tool.name: tool for tool in (ToolInfo(**from_json(raw)) for raw in raws if raw)}
        return [found[name] for name in sorted(found)]

    async def elect(self, me: str, *, ttl_ms: int) -> bool:
        """Whether *me* is, from now on for *ttl_ms*, the one process that reports the group's gauges."""
        with translated():
            return bool(await self._elect.run(self._redis, monitor=self._keys.monitor, me=me, ttl_ms=ttl_ms))

    async def resign(self, me: str) -> None:
        """Stop being that process."""
        with translated():
            await self._resign.run(self._redis, monitor=self._keys.monitor, me=me)

    async def snapshot(self, *, lease_ms: int) -> GroupSnapshot:
        """Measure the group, all figures of one moment.

        Raises:
            GroupMissingError: if there is no group to measure.
        """
        with translated():
            (
                now,
                length,
                pending,
                parked,
                consumers,
                live,
                silent,
                oldest,
                letters,
                oldest_letter,
            ) = await self._snapshot.run(
                self._redis,
                stream=self._keys.calls,
                parked=self._keys.parked,
                workers=self._keys.workers,
                dead_letters=self._keys.dead_letters,
                group=self._keys.group,
                lease_ms=lease_ms,
            )
        return GroupSnapshot(
            length=length,
            # Parked calls are pending for Redis, under a consumer of their own; for us they wait.
            pending=max(0, pending - parked),
            parked=parked,
            undelivered=max(0, length - pending),
            consumers=consumers,
            live_workers=live,
            silent_workers=silent,
            oldest_undelivered_age=_age(now, oldest),
            dead_letters=letters,
            oldest_dead_letter_age=_age(now, oldest_letter),
        )


def _age(now_ms: int, entry_id: bytes) -> float | None:
    return max(0, now_ms - int(entry_id.partition(b"-")[0])) / 1000 if entry_id else None


def _worker(consumer: str, silent_ms: int, values: Sequence[bytes]) -> WorkerInfo:
    host, pid, version, protocol, lease, start, concurrency, tools = values
    return WorkerInfo(
        consumer,
        silent_ms,
        host.decode(),
        int(pid),
        version.decode(),
        int(protocol),
        int(lease),
        int(start),
        int(concurrency),
        from_json(tools),
    )
