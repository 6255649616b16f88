"""What running tools tell of their progress: written in batches, and never more than their callers take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from toolspan.codec import dumps, encode_progress, nested_within
from toolspan.errors import StoreError
from toolspan.model import value as data
from toolspan.store.progress import Progressed, ProgressReply
from toolspan.worker.batcher import Batcher

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from toolspan.codec import Limits
    from toolspan.model import Run
    from toolspan.store.progress import ProgressStore
    from toolspan.telemetry.probe import Probe

_MAX_BATCH: Final = 100
_MAX_BATCH_BYTES: Final = 1_048_576
_ROOM_WAITS: Final = (0.05, 0.1, 0.2, 0.4)
"""How long a tool is held up, in all, where its caller does not keep pace; then its progress is left out."""


@data
class _Step:
    run: Run
    reply_to: str
    call_id: str
    seq: int
    value: bytes


class ProgressWriter:
    """Writes progress replies. It is no promise: what cannot be written is left out, and the tool goes on."""

    def __init__(self, store: ProgressStore, probe: Probe, limits: Limits) -> None:
        self._store = store
        self._probe = probe
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._writing = Batcher(
            self._write, most=_MAX_BATCH, most_bytes=_MAX_BATCH_BYTES, size=lambda step: len(step.value)
        )

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Give what has to run, until cancelled, for batches to be sent."""
        return [self._writing.run()]

    async def write(self, run: Run, value: Any) -> None:
        """Tell the caller of *run*, if it waits for a reply; returns once that is written, or left out.

        Raises:
            ValueError: if *value* is not JSON, or over a limit of replies.
        """
        await self._tell(run, self._encoded(value))

    def write_blocking(self, run: Run, value: Any) -> None:
        """Do the same from a thread of a tool, and block meanwhile."""
        encoded = self._encoded(value)
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._tell(run, encoded), self._loop).result()

    def on_loop(self) -> bool:
        """Whether we are asked on the loop, which must not be blocked."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    async def _tell(self, run: Run, encoded: bytes) -> None:
        call = run.call
        if call is None or call.reply_to is None or run.tool_ended_ns or run.cancelled:
            return
        run.progressed += 1
        step = _Step(run, call.reply_to, call.id, run.progressed, encoded)
        status = await self._writing.submit(step)
        for wait in _ROOM_WAITS:
            if status is not Progressed.NO_ROOM:
                return
            await asyncio.sleep(wait)
            status = await self._writing.submit(step)

    def _encoded(self, value: Any) -> bytes:
        encoded = dumps(value)
        if len(encoded) > self._limits.reply_bytes:
            message = f"progress of {len(encoded)} bytes; {self._limits.reply_bytes} are allowed"
            raise ValueError(message)
        if not nested_within(encoded, self._limits.nesting):
            message = f"progress nested deeper than {self._limits.nesting} levels"
            raise ValueError(message)
        return encoded

    async def _write(self, steps: list[_Step]) -> list[Progressed]:
        replies = [
            ProgressReply(
                step.run.delivery.entry_id,
                step.run.delivery.attempt,
                step.reply_to,
                encode_progress(
                    call_id=step.call_id,
                    entry_id=step.run.delivery.entry_id,
                    value=step.value,
                    seq=step.seq,
                    attempt=step.run.delivery.attempt,
                    consumer=self._store.me,
                    traceparent=self._probe.traceparent(step.run),
                ),
            )
            for step in steps
        ]
        try:
            statuses = await self._store.write(replies)
        except StoreError as exc:
            # A caller that sees a gap in the numbers knows what this means; a tool need not.
            self._probe.outage("progress", exc)
            return [Progressed.NOT_OURS] * len(steps)
        self._probe.recovered("progress")
        self._probe.progressed(statuses.count(Progressed.DONE))
        return statuses
