"""The ends of a delivery: settled in batches, parked, or quarantined; each is held until Redis takes it."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

from toolspan.codec import FORGOTTEN, NOTHING, dead_letter_fields, encode_outcome, encode_remembered, once_digest
from toolspan.model import OTHER_TOOL, Failed, Succeeded
from toolspan.store.steps import Burial, Buried, Ending, Parked, Quarantined, Settled, Settlement, Start, Started
from toolspan.worker.batcher import Batcher
from toolspan.worker.persistence import Persistence
from toolspan.worker.settler import MAX_BATCH, MAX_BATCH_BYTES, Settler

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from toolspan.codec import Codec, Form
    from toolspan.errors import MalformedEntryError
    from toolspan.model import DeadLetterReason, Delivery, Outcome, Run, ToolCall
    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.probe import Probe
    from toolspan.worker.inflight import InFlight, Work

T = TypeVar("T")

_START_BYTES: Final = 128
_LONGEST_WAIT: Final = 1.0
_RELEASE_MS: Final = 1_000
_LONGEST_RELEASE_MS: Final = 30_000

# What is answered, and with it counted, where the dead letter is the only end.
_SILENT: Final = frozenset({"reply_failed", "tool_failed"})


class Completer:
    """Writes how deliveries begin to count and how they end. Redis being away is waited out, by every method."""

    def __init__(self, store: StreamStore, codec: Codec, probe: Probe, *, concurrency: int) -> None:
        self._store = store
        self._codec = codec
        self._probe = probe
        self._persistence = Persistence(store, probe)
        self._settler = Settler(
            store,
            probe,
            self._persistence,
            encode=self._settlement,
            refused=self._refused,
            concurrency=concurrency,
        )
        self._starting = Batcher(self._start, most=MAX_BATCH, most_bytes=MAX_BATCH_BYTES, size=lambda _: _START_BYTES)

    @property
    def inflight(self) -> InFlight:
        """What this worker holds; set once that is made, for it is made of us."""
        return self._settler.inflight

    @inflight.setter
    def inflight(self, inflight: InFlight) -> None:
        self._settler.inflight = inflight

    def runs(self) -> list[Coroutine[None, None, None]]:
        """Give what has to run, until cancelled, for batches to be sent."""
        return [*self._settler.runs(), self._starting.run()]

    async def start(self, work: Work) -> Started:
        """Mark an at-most-once attempt as begun."""
        work.recorded = True
        work.starting = True
        try:
            status = await self._starting.submit(work)
        finally:
            work.starting = False
        work.noted = status is Started.DONE
        return status

    def settle(self, work: Work) -> None:
        """Reply and acknowledge with the next batch; what is not ours any more is dropped, and counted as stale.

        Nobody has to wait for it: *work* is ours to let go of from here on.
        """
        work.decided = work.settling = True
        work.run.settling_ns = time.monotonic_ns()
        self._settler.submit(work)

    async def _adopted(self, work: Work) -> None:
        """Settle *work* once more: its group was made anew, and its outcome waits for whoever gets the entry now."""
        await self.inflight.wait_for_adoption(work, _LONGEST_WAIT)
        work.settling = True
        self._settler.submit(work)

    async def _unwritable(self, work: Work) -> None:
        message = f"the reply stream {_reply_to(work)} cannot be written"
        await self.quarantine(work, "reply_failed", Failed("worker_error", message))

    def cancel(self, work: Work) -> None:
        """Settle a call that was given up; its caller is told whether any attempt of it had begun."""
        run, delivery = work.run, work.run.delivery
        started = bool(run.tool_began_ns) or delivery.attempt > 1 or delivery.previous is not None
        said = "while it was being run" if run.tool_began_ns else "before it was run"
        run.outcome = Failed("cancelled", f"the call was given up {said}", detail={"started": started})
        self.settle(work)

    async def retry(self, work: Work, failure: Failed, *, delay_ms: int) -> None:
        """Park the delivery until its next attempt, which counts."""
        work.decided = work.parting = True
        attempt = work.run.delivery.attempt
        if await self._park(work, count=attempt, delay_ms=delay_ms, reason=failure.type):
            self._probe.retried(work.run, failure=failure, delay_ms=delay_ms)

    async def release(self, work: Work, *, reason: str, at_once: bool = False) -> None:
        """Park the delivery and give its attempt back, for another worker; *reason* is for the log."""
        work.decided = work.parting = True
        delivery = work.run.delivery
        times = self.inflight.remember_release(work)
        delay_ms = 0 if at_once else min(_RELEASE_MS * 2**times, _LONGEST_RELEASE_MS)
        delay_ms = int(delay_ms * random.uniform(0.8, 1.2))  # noqa: S311
        if await self._park(work, count=_given_back(delivery), delay_ms=delay_ms, reason="released"):
            self._probe.released(work.run, reason=reason, delay_ms=delay_ms)

    async def turn_away(self, work: Work, *, delay_ms: int) -> None:
        """Park a delivery that could not begin yet, and give its attempt back; whoever has room then takes it."""
        work.decided = work.parting = True
        count = _given_back(work.run.delivery)
        if await self._park(work, count=count, delay_ms=delay_ms, reason="not_admitted"):
            self._probe.not_admitted(work.run, delay_ms=delay_ms)

    async def hold_back(self, work: Work, tool: str, *, at_most_ms: int | None = None) -> bool:
        """Park a delivery of a paused tool and give its attempt back; False: its tool is not paused any more.

        It is looked at again within *at_most_ms*. It is not remembered: others leave it waiting as we do.
        """
        work.decided = work.parting = True
        delivery = work.run.delivery
        status = await self._persistence.held(
            "park",
            lambda: self._store.hold_back(
                work.entry_id, delivery.attempt, count=_given_back(delivery), tool=tool, at_most_ms=at_most_ms
            ),
            done=Parked.DONE,
        )
        work.ended = True
        if status is Parked.NOT_OURS:
            self._probe.stale(work.run)
        else:
            self._probe.held_back(work.run, tool)
        return status is not Parked.DUE

    async def quarantine(
        self,
        work: Work,
        reason: DeadLetterReason,
        failure: Failed,
        *,
        malformed: MalformedEntryError | None = None,
    ) -> None:
        """Move the entry to the dead letters and answer its caller, where there is one, with *failure*."""
        work.decided = work.parting = True
        run = work.run
        run.unsent = run.outcome if reason == "reply_failed" else None
        run.outcome = failure
        tool = run.call.tool if run.call else (malformed and malformed.tool) or OTHER_TOOL
        reply_to = None if reason in _SILENT else malformed.reply_to if malformed else _reply_to(work)
        call_id = run.call.id if run.call else malformed.call_id if malformed else ""
        about = dead_letter_fields(
            entry_id=work.entry_id,
            reason=reason,
            tool=tool,
            failure=failure,
            consumer=self._store.me,
            traceparent=self._probe.traceparent(run),
            reply=encode_outcome(run.unsent) if run.unsent else None,
        )
        run.settling_ns = run.settling_ns or time.monotonic_ns()

        buried = Buried(Quarantined.NOT_OURS)

        async def write() -> Quarantined:
            nonlocal buried
            run.replies(time.monotonic_ns())
            buried = await self._store.quarantine(
                Burial(
                    entry_id=work.entry_id,
                    attempt=run.delivery.attempt,
                    reason=reason,
                    error_type=failure.type,
                    about=about,
                    reply_to=reply_to,
                    reply=self._reply(run, call_id, failure) if reply_to else (),
                    ending=self._ending(run, call_id, run.call or malformed, run.unsent or failure),
                )
            )
            return buried.status

        status = await self._persistence.held(
            "quarantine",
            write,
            done=Quarantined.DONE,
            refused=Quarantined.UNWRITABLE,
        )
        work.ended = True
        if status is not Quarantined.NOT_OURS:
            texts = [part if isinstance(part, str) else part.decode(errors="replace") for part in about]
            letter = {**dict(zip(texts[::2], texts[1::2], strict=True)), **buried.added}
            replied = reply_to is not None and status is Quarantined.DONE
            self._probe.dead_lettered(
                run,
                buried.letter_id,
                reason=reason,
                failure=failure,
                letter=letter,
                replied=replied,
                malformed=malformed,
            )
        else:
            self._probe.stale(run)

    async def _park(self, work: Work, *, count: int, delay_ms: int, reason: str) -> bool:
        parked = await self._persistence.held(
            "park",
            lambda: self._store.park(
                work.entry_id, work.run.delivery.attempt, count=count, delay_ms=delay_ms, reason=reason
            ),
            done=True,
        )
        work.ended = True
        if not parked:
            self._probe.stale(work.run)
        return parked

    def _refused(self, work: Work, status: Settled) -> None:
        """Do what is left to do for a delivery that was not settled, if it was not."""
        if status is Settled.UNDELIVERED:
            self.inflight.go_on(work, self._adopted)
        elif status is Settled.UNWRITABLE:
            self.inflight.go_on(work, self._unwritable)
        elif status is Settled.NOT_OURS:
            work.ended = work.lost = True
            self._probe.stale(work.run)
            self.inflight.settled(work)

    def _settlement(self, work: Work, now_ns: int) -> Settlement:
        run = work.run
        call, outcome, delivery = run.call, run.outcome, run.delivery
        run.replies(now_ns)
        if call is None or outcome is None:
            message = "a reply needs a call and its outcome"
            raise RuntimeError(message)
        reply_to = call.reply_to
        form, values = (NOTHING, ()) if reply_to is None else self._encoded(run, call.id, outcome)
        ending = None if call.idem is None else self._ending(run, call.id, call, outcome)
        return Settlement(delivery.entry_id, delivery.attempt, work.recorded, reply_to, form, values, ending)

    def _ending(
        self, run: Run, call_id: str, call: ToolCall | MalformedEntryError | None, outcome: Outcome | None
    ) -> Ending | None:
        """Say what becomes of the call's idempotency record; None if it has none."""
        if call is None or call.tool is None or call.idem is None or outcome is None:
            return None
        kept = isinstance(outcome, Succeeded) or outcome.type not in FORGOTTEN
        reply = encode_remembered(self._reply(run, call_id, outcome))
        return Ending(once_digest(call.principal, call.tool, call.idem), kept, reply)

    async def _start(self, works: list[Work]) -> list[Started]:
        starts = [
            Start(work.entry_id, work.run.delivery.attempt, work.run.delivery.attempt, work.token) for work in works
        ]
        return await self._persistence.held("start", lambda: self._store.start(starts))

    def _reply(self, run: Run, call_id: str, outcome: Outcome) -> list[str | bytes]:
        form, values = self._encoded(run, call_id, outcome)
        return form.filled(values)

    def _encoded(self, run: Run, call_id: str, outcome: Outcome) -> tuple[Form, tuple[str | bytes, ...]]:
        return self._codec.encode_reply(
            call_id=call_id,
            entry_id=run.delivery.entry_id,
            outcome=outcome,
            attempt=run.delivery.attempt,
            consumer=self._store.me,
            timings=run.told or run.timings,
            traceparent=self._probe.reply_traceparent(run),
        )


def _given_back(delivery: Delivery) -> int:
    """Give how many attempts count without this one."""
    # A claimed call that was not started keeps its count, or poison would loop for ever.
    return delivery.attempt - 1 if delivery.counted else delivery.attempt


def _reply_to(work: Work) -> str | None:
    return work.run.call.reply_to if work.run.call else None
