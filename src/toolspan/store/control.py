"""What operators ask of the workers: paused tools, and workers that shall finish and go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec import decode_control, decode_order
from toolspan.store.clock import redis_ms
from toolspan.store.connection import translated
from toolspan.store.names import raw_of
from toolspan.store.scripts import Script

if TYPE_CHECKING:
    from toolspan.keys import Keys
    from toolspan.model import Control, Order
    from toolspan.store.connection import Connection

_PAGE: Final = 50
"""Parked calls that Redis looks at in one go: each body may be as large as its arguments."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A worker that was asked to go. *anew*: nobody had asked it before; *silent_ms*: since its last heartbeat."""

    anew: bool
    silent_ms: int


class ControlStore:
    """Writes and reads the control hash. Every method raises StoreError."""

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._redis = connection.commands
        self._keys = keys
        self._pause = Script("pause")
        self._resume = Script("resume")
        self._hasten = Script("hasten")
        self._drain = Script("drain")

    async def now_ms(self) -> int:
        """Redis' clock, by which orders have their time."""
        with translated():
            return await redis_ms(self._redis)

    async def read(self) -> Control:
        """Give all that is asked for now."""
        with translated():
            answer: Any = await self._redis.execute_command("HGETALL", self._keys.control)
        return decode_control([part for pair in answer.items() for part in pair])

    async def pause(self, tool: str, *, who: str, why: str) -> Order | None:
        """Have the calls of *tool* wait; gives who had paused it before, where somebody had: nothing changes then."""
        with translated():
            known: bytes | None = await self._pause.run(
                self._redis, control=self._keys.control, audit=self._keys.audit, tool=tool, who=who, why=why
            )
        return None if known is None else decode_order(known)

    async def resume(self, tool: str, *, who: str, why: str) -> Order | None:
        """Have the calls of *tool* run again, and give who had paused it; None: it was not paused."""
        with translated():
            known: bytes | None = await self._resume.run(
                self._redis, control=self._keys.control, audit=self._keys.audit, tool=tool, who=who, why=why
            )
        return None if known is None else decode_order(known)

    async def hasten(self, tool: str) -> int:
        """Make the parked calls of *tool* due, in steps, and tell how many; none any more once it is paused again."""
        hastened = 0
        cursor = b"0"
        while True:
            with translated():
                cursor, made_due = await self._hasten.run(
                    self._redis,
                    stream=self._keys.calls,
                    parked=self._keys.parked,
                    control=self._keys.control,
                    tool=tool,
                    cursor=cursor,
                    count=_PAGE,
                )
            hastened += int(made_due)
            if cursor == b"0":
                return hastened

    async def drain(self, consumer: str, *, who: str, why: str) -> Asked | None:
        """Ask *consumer* to finish what it holds and go; None: no worker of that name is registered."""
        with translated():
            answer = await self._drain.run(
                self._redis,
                control=self._keys.control,
                workers=self._keys.workers,
                audit=self._keys.audit,
                consumer=raw_of(consumer),
                who=who,
                why=why,
            )
        return None if answer is None else Asked(bool(answer[0]), int(answer[1]))

    async def silent_ms(self, consumer: str) -> int | None:
        """Tell how long ago the last heartbeat of *consumer* was; None once it has left."""
        with translated():
            beat: Any = await self._redis.execute_command("ZSCORE", self._keys.workers, raw_of(consumer))
            return None if beat is None else await redis_ms(self._redis) - int(beat)
