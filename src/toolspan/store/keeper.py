"""What the heartbeat's thread does in Redis: keep leases and the registration fresh, without asyncio."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from toolspan.codec import decode_control, dumps
from toolspan.store.connection import translated
from toolspan.store.limits import run_of
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.client import Pipeline

    from toolspan.keys import Keys
    from toolspan.model import Control, ToolInfo
    from toolspan.store.clock import RedisClock
    from toolspan.store.connection import Connection


@dataclass(frozen=True, slots=True)
class Registration:
    """What a worker tells the fleet of itself. *tools* is name to the digest of its description."""

    host: str
    pid: int
    version: str
    protocol: int
    lease_ms: int
    concurrency: int
    start_ms: int
    tools: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Held:
    """One delivery that we hold. *noted*: its attempt is on record, so that its start outlives the heartbeat."""

    entry_id: str
    attempt: int
    noted: bool


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker has to do, for whoever measures the group.

    *again* counts the calls held that are in their second, third, and fourth or a later attempt; *oldest* are those
    that run longest, the longest first: entry id, attempt, and since when, by Redis' clock in ms.
    """

    again: tuple[int, int, int] = (0, 0, 0)
    oldest: Sequence[tuple[str, int, int]] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a heartbeat. *lost*: entry id and attempt of what is no longer ours; *cancelled*: call ids.

    *control* is what operators ask for; None where that cannot be known, for something else lies there.
    """

    registered: bool
    lost: list[tuple[str, int]]
    cancelled: list[str]
    control: Control | None = None


_IDLE: Final = Load()


class Keeper:
    """The steps of one worker's heartbeat. Every method raises StoreError, and blocks."""

    def __init__(
        self, connection: Connection, keys: Keys, *, me: str, clock: RedisClock, ttl_ms: int, timeout: float
    ) -> None:
        self._redis = connection.threaded(timeout)
        self._keys = keys
        self._me = me
        self._clock = clock
        self._ttl_ms = ttl_ms
        self.describe_every = ttl_ms / 1000 / 3
        """After so many seconds the descriptions of our tools have to be written again."""
        self._keep = Script("keep")
        self._renew = Script("renew")

    def keep(
        self,
        held: Sequence[Held],
        *,
        running: Mapping[str, str],
        load: Load = _IDLE,
        calls: Sequence[str] = (),
        draining: bool = False,
    ) -> Kept:
        """Renew the heartbeat and every lease of *held*.

        *running*, entry id to tool, and whether we are *draining* are for operators to see, *load* is what the reporter
        needs to know; *calls* are the ids of the calls of which it is asked whether they were given up.
        """
        asked_ns = time.monotonic_ns()
        with translated():
            now_ms, registered, lost, cancelled, control = self._keep.run_blocking(
                self._redis,
                stream=self._keys.calls,
                workers=self._keys.workers,
                worker=self._keys.worker(self._me),
                attempts=self._keys.attempts,
                control=self._keys.control,
                cancels=[self._keys.cancel(call_id) for call_id in calls],
                group=self._keys.group,
                consumer=self._me,
                ttl_ms=self._ttl_ms,
                running=dumps(dict(running)),
                draining="1" if draining else "0",
                load=dumps(asdict(load)),
                held=[part for h in _ordered(held) for part in (h.entry_id, h.attempt, "1" if h.noted else "0")],
            )
        self._clock.set(now_ms, asked_ns=asked_ns, answered_ns=time.monotonic_ns())
        return Kept(
            bool(registered),
            [(lost[i].decode(), int(lost[i + 1])) for i in range(0, len(lost), 2)],
            [calls[number - 1] for number in cancelled],
            None if control is None else decode_control(control),
        )

    def renew_slots(self, tool: str, entry_ids: Sequence[str], *, lease_ms: int) -> int:
        """Keep the slots of runs of *tool*, and tell how many: one that has ended meanwhile has given its own back."""
        with translated():
            return int(
                self._renew.run_blocking(
                    self._redis,
                    stream=self._keys.calls,
                    slots=self._keys.slots(tool),
                    group=self._keys.group,
                    lease_ms=lease_ms,
                    runs=[run_of(self._me, entry_id) for entry_id in entry_ids],
                )
            )

    def register(self, registration: Registration, tools: Mapping[str, ToolInfo]) -> None:
        """Write our registration, and the descriptions of our *tools* by their digests; both expire without us."""
        key = self._keys.worker(self._me)
        with translated():
            pipeline = self._redis.pipeline(transaction=True)
            pipeline.sadd(self._keys.streams, self._keys.stream)
            pipeline.hset(
                key,
                mapping={
                    "host": registration.host,
                    "pid": registration.pid,
                    "version": registration.version,
                    "protocol": registration.protocol,
                    "lease": registration.lease_ms,
                    "start": registration.start_ms,
                    "concurrency": registration.concurrency,
                    "tools": dumps(dict(registration.tools)),
                    # The next heartbeat says what does.
                    "running": "{}",
                },
            )
            pipeline.pexpire(key, self._ttl_ms)
            self._describe(pipeline, tools)
            pipeline.execute()

    def describe(self, tools: Mapping[str, ToolInfo]) -> None:
        """Write the descriptions of our *tools* again: heartbeats renew the registration, and not these."""
        with translated():
            pipeline = self._redis.pipeline(transaction=False)
            self._describe(pipeline, tools)
            pipeline.execute()

    def _describe(self, pipeline: Pipeline, tools: Mapping[str, ToolInfo]) -> None:
        for digest, tool in tools.items():
            pipeline.set(self._keys.schema(digest), dumps(tool), px=self._ttl_ms)

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def _ordered(held: Sequence[Held]) -> list[Held]:
    return sorted(held, key=lambda h: tuple(int(part) for part in h.entry_id.split("-")))
