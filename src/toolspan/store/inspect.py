"""The operator's path: who is there, what is served, how much waits; never called per call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic_core import from_json
from redis.exceptions import ResponseError

from toolspan.model import GroupSnapshot, ToolInfo
from toolspan.store.clock import redis_ms
from toolspan.store.connection import translated
from toolspan.store.names import name_of, printable, raw_of
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.store.connection import Connection

_FIELDS: Final = ("host", "pid", "version", "protocol", "lease", "start", "concurrency", "tools")
_WITH_RUNNING: Final = (*_FIELDS, "running")


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One registered worker. *silent_ms* is how long ago its last heartbeat was; times are Redis' clock in ms.

    *running* is entry id to tool, as the last heartbeat told it; empty where nobody asked.
    """

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
    running: dict[str, str] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether it was heard of within its lease."""
        return self.silent_ms < self.lease_ms


@dataclass(frozen=True, slots=True)
class Registered:
    """One name that beats, in the form that the store takes back.

    *worker* is None where no registration can be read; *found* says whether there is one at all. *silent_ms* is None
    where the heartbeat is no time.
    """

    name: str
    silent_ms: int | None
    found: bool
    worker: WorkerInfo | None


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
        """List the workers with a registration, dead ones too until they are reaped.

        One that cannot be read is no worker of ours: it is left out, as if it had no registration.
        """
        registered = await self._registered(_FIELDS)
        return [one.worker for one in registered if one.worker is not None]

    async def registrations(self) -> list[Registered]:
        """List all that beats: the workers with what each runs now, and what cannot be read as one."""
        return await self._registered(_WITH_RUNNING)

    async def _registered(self, names: tuple[str, ...]) -> list[Registered]:
        with translated():
            now_ms = await redis_ms(self._redis)
            beats = await self._beats()
            pipeline = self._redis.pipeline(transaction=False)
            for name, _ in beats:
                pipeline.hmget(raw_of(self._keys.worker(name)), *names)
            hashes = await pipeline.execute(raise_on_error=False) if beats else []
            for answer in hashes:
                if isinstance(answer, ResponseError) and not str(answer).startswith("WRONGTYPE"):
                    raise answer
        return [
            Registered(name, _silence(now_ms, beat), _is_there(values), _worker(printable(name), now_ms, beat, values))
            for (name, beat), values in zip(beats, hashes, strict=True)
        ]

    async def _beats(self) -> list[tuple[str, float]]:
        beats: Any = await self._redis.zrange(self._keys.workers, 0, -1, withscores=True)
        return [(name_of(name), beat) for name, beat in beats]

    async def pending_by_consumer(self) -> dict[str, int]:
        """Tell how many entries are pending for each consumer that has any."""
        with translated():
            answer: Any = await self._redis.execute_command("XPENDING", self._keys.calls, self._keys.group)
        return {printable(name_of(name)): int(count) for name, count in answer[3] or ()}

    async def silent_consumers(self, silent_ms: int) -> list[str]:
        """Name the consumers and registrations that were not heard of for *silent_ms*, or never.

        In the form in which `StreamStore.reap` takes them; see `names`.
        """
        with translated():
            since = await redis_ms(self._redis) - silent_ms
            beats = await self._beats()
            infos = await cast(
                "Any", self._redis.execute_command("XINFO CONSUMERS", self._keys.calls, self._keys.group)
            )
        heard = dict(beats)
        names = {name_of(info[1]): info[3] for info in infos}
        silent = [name for name, pending in names.items() if not pending and heard.get(name, 0) <= since]
        return silent + [name for name, beat in heard.items() if name not in names and beat <= since]

    async def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers serve now, by name; those whose description can be read."""
        digests = {digest for worker in await self.workers() if worker.live for digest in worker.tools.values()}
        if not digests:
            return []
        with translated():
            raws = await self._redis.mget([self._keys.schema(digest) for digest in sorted(digests)])
        found = {tool.name: tool for tool in map(_tool, raws) if tool is not None}
        return [found[name] for name in sorted(found)]

    async def elect(self, me: str, *, ttl_ms: int) -> bool:
        """Whether *me* is, from now on for *ttl_ms*, the one process that reports the group's gauges.

        A name that begins with `~` only stands in: one that does not takes its place.
        """
        with translated():
            return bool(await self._elect.run(self._redis, monitor=self._keys.monitor, me=me, ttl_ms=ttl_ms))

    async def resign(self, me: str) -> None:
        """Stop being that process."""
        with translated():
            await self._resign.run(self._redis, monitor=self._keys.monitor, me=me)

    async def snapshot(self, *, lease_ms: int, letters: bool = True) -> GroupSnapshot:
        """Measure the group, all figures of one moment. Where another kind of value lies under a key, the rest is told.

        Without *letters* the dead letters are not looked at, only counted.

        Raises:
            GroupMissingError: if there is no group to measure.
        """
        with translated():
            names = await self._beating()
            (
                now,
                length,
                pending,
                parked,
                undelivered,
                consumers,
                workers,
                again,
                since,
                oldest,
                letters,
                oldest_letter,
            ) = await self._snapshot.run(
                self._redis,
                stream=self._keys.calls,
                parked=self._keys.parked,
                workers=self._keys.workers,
                dead_letters=self._keys.dead_letters,
                control=self._keys.control,
                registrations=[raw_of(self._keys.worker(name_of(name))) for name in names],
                group=self._keys.group,
                lease_ms=lease_ms,
                letters=int(letters),
                names=names,
            )
        # Parked calls are pending for Redis, under a consumer of their own; for us they wait.
        in_hand = _difference(pending, parked)
        live, draining, silent = workers or (None, None, None)
        return GroupSnapshot(
            length=length,
            pending=in_hand,
            parked=parked,
            undelivered=undelivered,
            consumers=consumers,
            live_workers=live,
            draining_workers=draining,
            silent_workers=silent,
            pending_by_attempt=None if in_hand is None else (max(0, in_hand - sum(again)), *again),
            oldest_undelivered_age=_age(now, oldest),
            oldest_pending_age=max(0, now - since) / 1000 if since else None,
            dead_letters=letters,
            oldest_dead_letter_age=_age(now, oldest_letter),
        )

    async def _beating(self) -> list[bytes]:
        """Name the workers whose registrations are to be looked into; none, where something else lies there."""
        try:
            return cast("list[bytes]", await cast("Any", self._redis.zrange(self._keys.workers, 0, -1)))
        except ResponseError as exc:
            if not str(exc).startswith("WRONGTYPE"):
                raise
            return []


def _age(now_ms: int, entry_id: bytes | None) -> float | None:
    return max(0, now_ms - int(entry_id.partition(b"-")[0])) / 1000 if entry_id else None


def _difference(whole: int | None, part: int | None) -> int | None:
    return None if whole is None or part is None else max(0, whole - part)


def _silence(now_ms: int, beat: float) -> int | None:
    try:
        return now_ms - int(beat)
    except (ValueError, OverflowError):
        return None


def _is_there(values: Any) -> bool:
    """Whether the fields of a registration say that there is one, or something else lies there."""
    return not isinstance(values, list) or any(value is not None for value in values)


def _worker(consumer: str, now_ms: int, beat: float, values: Any) -> WorkerInfo | None:
    """Read a registration; None for what is none."""
    try:
        host, pid, version, protocol, lease, start, concurrency, tools, *running = values
        return WorkerInfo(
            consumer,
            now_ms - int(beat),
            host.decode(),
            int(pid),
            version.decode(),
            int(protocol),
            int(lease),
            int(start),
            int(concurrency),
            _texts(from_json(tools)),
            _running(*running),
        )
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None


def _running(raw: bytes | None = None) -> dict[str, str]:
    """Read what runs; what cannot be read is as good as nothing, for it is told again with each heartbeat."""
    try:
        return _texts(from_json(raw or b"{}"))
    except (ValueError, AttributeError):
        return {}


def _texts(named: dict[str, Any]) -> dict[str, str]:
    return {name: text for name, text in named.items() if isinstance(text, str)}


def _tool(raw: bytes | str | None) -> ToolInfo | None:
    """Read a tool's description; None for what is none."""
    try:
        tool = ToolInfo(**from_json(raw or b""))
    except (TypeError, ValueError):
        return None
    return tool if isinstance(tool.name, str) else None
