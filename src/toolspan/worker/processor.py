"""The story of one delivery, from bytes to its end."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from toolspan.errors import MalformedEntryError
from toolspan.model import OTHER_TOOL, Failed, NewerCall, Succeeded, ToolCall
from toolspan.store.steps import Started
from toolspan.tools.registry import Retry
from toolspan.worker.containment import failed, raising
from toolspan.worker.executor import too_late
from toolspan.worker.line import NotAdmittedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from toolspan.codec import Codec
    from toolspan.model import Outcome
    from toolspan.store.clock import RedisClock
    from toolspan.telemetry.probe import Probe
    from toolspan.tools.registry import Registry, Tool
    from toolspan.worker.admission import Admission
    from toolspan.worker.cancellations import Cancellations
    from toolspan.worker.completer import Completer
    from toolspan.worker.controls import Controls
    from toolspan.worker.executor import Executor
    from toolspan.worker.inflight import Work
    from toolspan.worker.neighbours import Neighbours

_OWN_BACKOFF: Final = (1.0, 60.0)
"""First and longest delay in seconds between attempts that a bug of ours ended."""


class Processor:
    """Works on one delivery at a time; knows the tools and what may be tried again."""

    def __init__(
        self,
        *,
        codec: Codec,
        registry: Registry,
        executor: Executor,
        completer: Completer,
        admission: Admission,
        neighbours: Neighbours,
        cancellations: Cancellations,
        controls: Controls,
        clock: RedisClock,
        probe: Probe,
        max_attempts: int,
    ) -> None:
        self._codec = codec
        self._registry = registry
        self._executor = executor
        self._completer = completer
        self._admission = admission
        self._neighbours = neighbours
        self._cancellations = cancellations
        self._controls = controls
        self._clock = clock
        self._probe = probe
        self._max_attempts = max_attempts

    def begin(self, work: Work) -> Coroutine[Any, Any, None] | None:
        """Work on a delivery as far as that goes without waiting, and give what is left to be done; see `Process`.

        Functions as far as possible: a coroutine for each step would cost more than what is done in it.
        """
        try:
            story = self._begin(work)
        except Exception as exc:  # noqa: BLE001
            story = raising(exc)
        return None if story is None else self.contained(work, story)

    def contained(self, work: Work, story: Awaitable[None]) -> Coroutine[Any, Any, None]:
        """Work on a delivery by another *story* than our own; see `Process`."""
        return kept_apart(work, story, self._probe, self._completer, self._fail)

    def _begin(self, work: Work) -> Coroutine[Any, Any, None] | None:
        run = work.run
        try:
            call = self._codec.decode_call(run.delivery.entry_id, run.delivery.fields)
        except MalformedEntryError as exc:
            return self._malformed(work, exc)
        if isinstance(call, NewerCall):
            return self._pass_on(work, call)
        run.is_of(call)
        tool = self._registry.find(call.tool)
        if tool is not None:
            run.tool = tool.name
        self._probe.began(run)
        if work.verdict is not None:
            return self._completer.quarantine(work, work.verdict.reason, work.verdict.failure)
        if call.id in self._cancellations:
            self._completer.cancel(work)
            return None
        if call.tool in self._controls.paused:
            return self._hold_back(work, call)
        return self._unknown(work, call) if tool is None else self._run(work, call, tool)

    def _run(self, work: Work, call: ToolCall, tool: Tool) -> Coroutine[Any, Any, None] | None:
        try:
            arguments = tool.validate(call.args)
        except Exception as exc:  # noqa: BLE001
            return self._conclude(work, call, tool, self._executor.refused(exc))
        if not tool.immediate:
            return self._run_admitted(work, call, tool, arguments)
        outcome = self._executor.begin(work.run, work.task, call, tool, arguments)
        if isinstance(outcome, Succeeded | Failed):
            return self._conclude(work, call, tool, outcome)
        return self._await(work, call, tool, outcome)

    def _malformed(self, work: Work, exc: MalformedEntryError) -> Coroutine[Any, Any, None]:
        self._probe.began(work.run)
        verdict = work.verdict
        reason = verdict.reason if verdict else "malformed"
        failure = verdict.failure if verdict else Failed("malformed", self._probe.redact(str(exc)))
        return self._completer.quarantine(work, reason, failure, malformed=exc)

    async def _await(self, work: Work, call: ToolCall, tool: Tool, running: Coroutine[Any, Any, Outcome]) -> None:
        await _all_of(self._conclude(work, call, tool, await running))

    async def _run_admitted(self, work: Work, call: ToolCall, tool: Tool, arguments: dict[str, Any]) -> None:
        """Run a tool that may have to wait until it can begin."""
        outcome: Outcome | Coroutine[Any, Any, Outcome]
        try:
            if tool.limited:
                await self._admission.enter(work, tool, seconds=self._executor.seconds_until_deadline(call))
            refused = await self._executor.admit(call, tool)
            if refused is not None:
                outcome = refused
            elif call.tool in self._controls.paused:
                # While it waited for its turn or for a thread.
                self._executor.dismiss(tool)
                await self._hold_back(work, call)
                return
            elif await self._may_begin(work, tool):
                outcome = self._executor.begin(work.run, work.task, call, tool, arguments)
                if not isinstance(outcome, Succeeded | Failed):
                    outcome = await outcome
            else:
                return
        except NotAdmittedError:
            await self._turn_away(work, call, tool)
            return
        finally:
            if work.slot:
                self._admission.leave(work, tool)
        await _all_of(self._conclude(work, call, tool, outcome))

    async def _turn_away(self, work: Work, call: ToolCall, tool: Tool) -> None:
        left = self._executor.seconds_until_deadline(call)
        if left <= 0:
            await _all_of(self._conclude(work, call, tool, too_late()))
            return
        # So that it is answered when its time is up, and not long after.
        delay_ms = int(min(self._admission.turned_away(work, tool), left * 1000))
        await self._completer.turn_away(work, delay_ms=delay_ms)

    async def _hold_back(self, work: Work, call: ToolCall) -> None:
        """Have a call of a paused tool wait, but answer one that nobody waits for any more."""
        left_ms = None if call.deadline_ms is None else call.deadline_ms - self._clock.now_ms()
        if left_ms is not None and left_ms <= 0:
            work.run.outcome = Failed("deadline_exceeded", f"{call.tool} is paused, and the deadline has passed")
            await _all_of(self._end(work, call))
        elif not await self._completer.hold_back(work, call.tool, at_most_ms=left_ms):
            self._controls.forget(call.tool)

    def _conclude(self, work: Work, call: ToolCall, tool: Tool, outcome: Outcome) -> Coroutine[Any, Any, None] | None:
        """Give what is left to be done once it is known how an attempt has ended; None where it was settled."""
        work.run.outcome = outcome
        if isinstance(outcome, Succeeded):
            self._completer.settle(work)
            return None
        delay_ms = self._retry_delay_ms(work, call, tool, outcome)
        if delay_ms is None:
            return self._end(work, call)
        return self._completer.retry(work, outcome, delay_ms=delay_ms)

    async def _may_begin(self, work: Work, tool: Tool) -> bool:
        """Put the mark on a call that runs at most once, as the last thing before it does."""
        if tool.delivery != "at_most_once":
            return True
        marked = False
        try:
            marked = await self._mark(work)
        finally:
            if not marked:
                self._executor.dismiss(tool)
        return marked

    async def _mark(self, work: Work) -> bool:
        """Put the mark on an at-most-once call; False: it must not run, and has got its end."""
        work.token = secrets.token_hex(8)
        status = await self._completer.start(work)
        if status is Started.MARKED:
            await self._completer.quarantine(work, "outcome_unknown", outcome_unknown())
        elif status is not Started.DONE:
            work.lost = True
            self._probe.stale(work.run)
        elif work.run.given_up:
            self._completer.cancel(work)
            return False
        return status is Started.DONE

    def _end(self, work: Work, call: ToolCall) -> Coroutine[Any, Any, None] | None:
        outcome = work.run.outcome
        if call.reply_to is None and isinstance(outcome, Failed) and outcome.type != "cancelled":
            # Nobody waits for it: the dead letter is how its failure is heard of.
            return self._completer.quarantine(work, "tool_failed", outcome)
        self._completer.settle(work)
        return None

    async def _pass_on(self, work: Work, newer: NewerCall) -> None:
        tool = newer.tool or OTHER_TOOL
        call = ToolCall(
            newer.id, tool, {}, newer.reply_to, idem=newer.idem, trace=newer.trace, principal=newer.principal
        )
        work.run.is_of(call)
        self._probe.began(work.run)
        if work.verdict is not None:
            await self._completer.quarantine(work, work.verdict.reason, work.verdict.failure)
        elif tool in self._controls.paused:
            await self._hold_back(work, call)
        elif await self._neighbours.serve(tool, version=newer.version):
            await self._completer.release(work, reason="of a higher version")
        else:
            work.run.outcome = Failed("unknown_tool", f"no worker reads version {newer.version} of the protocol")
            await _all_of(self._end(work, call))

    async def _unknown(self, work: Work, call: ToolCall) -> None:
        if await self._neighbours.serve(call.tool):
            await self._completer.release(work, reason="served by another worker")
        else:
            work.run.outcome = Failed("unknown_tool", f"no worker serves {call.tool}")
            await _all_of(self._end(work, call))

    async def _fail(self, work: Work, failure: Failed) -> None:
        """End an attempt that a bug of ours ended: it must not take its neighbours down."""
        attempt, call = work.run.delivery.attempt, work.run.call
        delay_ms = jittered_ms(attempt, first=_OWN_BACKOFF[0], longest=_OWN_BACKOFF[1])
        if work.token:
            failure = outcome_unknown("a bug of its worker's ended it")
            await self._completer.quarantine(work, "outcome_unknown", failure)
        elif attempt >= self._max_attempts:
            await self._completer.quarantine(work, "max_attempts", failure)
        elif call is not None and self._is_too_late(call, delay_ms):
            work.run.outcome = failure
            await _all_of(self._end(work, call))
        else:
            await self._completer.retry(work, failure, delay_ms=delay_ms)

    def _retry_delay_ms(self, work: Work, call: ToolCall, tool: Tool, outcome: Failed) -> int | None:
        """Give the milliseconds until the next attempt; None: there is none."""
        attempt = work.run.delivery.attempt
        if tool.delivery == "at_most_once" or attempt >= self._max_attempts:
            return None
        retry = work.run.retry
        if retry is None and (outcome.type not in {"tool_error", "timeout"} or attempt > tool.retries):
            return None
        if isinstance(retry, Retry) and retry.after is not None:
            delay_ms = int(retry.after * 1000)
        else:
            delay_ms = jittered_ms(attempt, first=tool.backoff[0], longest=tool.backoff[1])
        if self._is_too_late(call, delay_ms):
            # Nobody would wait for the next attempt, but another call may succeed.
            work.run.outcome = replace(outcome, retryable=True)
            return None
        return delay_ms

    def _is_too_late(self, call: ToolCall, delay_ms: int) -> bool:
        return call.deadline_ms is not None and self._clock.now_ms() + delay_ms > call.deadline_ms


async def kept_apart(
    work: Work,
    story: Awaitable[None],
    probe: Probe,
    completer: Completer,
    fail: Callable[[Work, Failed], Awaitable[None]],
) -> None:
    """Let *story* work on one delivery until it has its end.

    Whatever goes wrong in there is this entry's own trouble: *fail* ends it, and its neighbours go on. An outcome that
    is known is held until Redis takes it, never thrown away to be run again.
    """
    try:
        await story
    except asyncio.CancelledError:
        if not work.run.given_up or (work.lost and not work.ended):
            if work.lost:
                probe.lease_lost(work.run)
            raise
        task = asyncio.current_task()
        while task is not None and task.uncancel():
            continue
        # One that did not let itself be cancelled was answered for meanwhile.
        if not work.decided:
            completer.cancel(work)
    except Exception as exc:  # noqa: BLE001
        probe.bug("process", exc)
        await fail(work, failed("worker_error", exc, probe.redact, retryable=True))


async def _all_of(story: Coroutine[Any, Any, None] | None) -> None:
    if story is not None:
        await story


def outcome_unknown(why: str = "its worker was lost") -> Failed:
    """Give the failure of a call that was begun, may have had its effect, and is never run again."""
    return Failed("outcome_unknown", f"the call was begun and {why}; whether it took effect is unknown")


def jittered_ms(attempt: int, *, first: float, longest: float) -> int:
    """Draw the milliseconds after *attempt*: exponential backoff with full jitter. *first*, *longest*: seconds."""
    return int(random.uniform(0, min(longest, first * 2.0 ** (attempt - 1))) * 1000)  # noqa: S311
