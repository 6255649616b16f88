"""Runs a tool and turns everything that can happen into an outcome; no Redis here."""

from __future__ import annotations

import asyncio
import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from toolspan.codec import NotJsonError, dumps, nested_within
from toolspan.model import Failed, Succeeded
from toolspan.tools.context import run_for
from toolspan.tools.registry import Retry
from toolspan.tools.signature import InvalidArgumentsError
from toolspan.worker.containment import Raised, clip, contained, failed, raising
from toolspan.worker.line import NotAdmittedError
from toolspan.worker.timekeeper import Timekeeper

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

    from toolspan.codec import Limits
    from toolspan.model import ErrorType, Outcome, Run, ToolCall
    from toolspan.store.clock import RedisClock
    from toolspan.telemetry.probe import Probe
    from toolspan.telemetry.spans import Entered
    from toolspan.tools.registry import Tool
    from toolspan.worker.progress import ProgressWriter
    from toolspan.worker.threads import Threads


class Executor:
    """Runs tools: `async def` on the loop, `def` in daemon threads."""

    def __init__(
        self,
        threads: Threads,
        probe: Probe,
        clock: RedisClock,
        progress: ProgressWriter,
        *,
        limits: Limits,
        timeout: float,
        admission: float,
    ) -> None:
        self._timekeeper = Timekeeper()
        self._threads = threads
        self._probe = probe
        self._clock = clock
        self._progress = progress
        self._limits = limits
        self._timeout = timeout
        self._admission = admission

    def refused(self, exc: Exception) -> Failed:
        """Say why a tool cannot be run, whose validation has raised *exc*: its validators are a part of it."""
        redact = self._probe.redact
        if isinstance(exc, InvalidArgumentsError):
            return Failed("invalid_arguments", clip(redact(str(exc))), detail=redact.within(exc.errors))
        return failed("tool_error", exc, redact)

    async def admit(self, call: ToolCall, tool: Tool) -> Failed | None:
        """Make sure that *tool* can begin now, or say why it cannot; then `run` or `dismiss` it.

        Raises:
            NotAdmittedError: if there was no thread for it in time.
        """
        if not tool.is_async:
            await self._admit()
        if self._time_left(call, tool)[0] <= 0:
            self.dismiss(tool)
            return too_late()
        return None

    def seconds_until_deadline(self, call: ToolCall) -> float:
        """Tell for how long somebody waits for *call*."""
        return math.inf if call.deadline_ms is None else (call.deadline_ms - self._clock.now_ms()) / 1000

    def dismiss(self, tool: Tool) -> None:
        """Let go of a tool that was admitted and will not be run."""
        if not tool.is_async:
            self._threads.dismiss()

    def begin(
        self, run: Run, task: asyncio.Task[None] | None, call: ToolCall, tool: Tool, arguments: dict[str, Any]
    ) -> Outcome | Coroutine[Any, Any, Outcome]:
        """Run a *tool* that was admitted as far as it gets without waiting, in *task*, which is the current one.

        Give how it ended or, where it waits, what gives that, and raises asyncio.CancelledError if we have cancelled
        the run. When the tool began and ended is noted in *run*, and whether it asks for another attempt.
        """
        limit: tuple[float, ErrorType] = (tool.timeout or self._timeout, "timeout")
        if call.deadline_ms is not None:
            limit = self._time_left(call, tool)
            if limit[0] <= 0:
                self.dismiss(tool)
                return too_late()
        run_for(call, run, self._clock.now_ms, self._progress)
        # Where the tool does not wait, nothing more is done in the context of its run.
        entered = self._probe.execute(run) if self._probe.tracing else None
        theirs: Awaitable[Any]
        run.tool_began_ns = time.monotonic_ns()
        try:
            if tool.is_async:
                running = tool.function(**arguments)
            else:
                running = self._threads.run(partial(tool.function, **arguments))
            waits_for = running.send(None)
        except StopIteration as end:
            if task is None or not task.cancelling():
                run.tool_ended_ns = time.monotonic_ns()
                return self._encode(tool, end.value)
            theirs = _given(end.value)
        except BaseException as exc:  # noqa: BLE001
            theirs = raising(exc)
        else:
            theirs = self._timekeeper.limited(run, limit[0], running, waits_for)
        return self._ended(run, task, tool, limit, theirs, entered)

    async def _ended(  # noqa: PLR0917
        self,
        run: Run,
        task: asyncio.Task[None] | None,
        tool: Tool,
        limit: tuple[float, ErrorType],
        theirs: Awaitable[Any],
        entered: Entered,
    ) -> Outcome:
        """Await the rest of what is *theirs*, and make an outcome of it."""
        try:
            result = await contained(run, task, theirs)
        finally:
            run.tool_ended_ns = time.monotonic_ns()
            self._probe.executed(entered)
        if not isinstance(result, Raised):
            return self._encode(tool, result)
        if run.expired:
            seconds, expiry = limit
            message = f"{tool.name} did not end within {seconds:.3g} s"
            return Failed(expiry, message, retryable=expiry == "timeout")
        run.retry = result.error if isinstance(result.error, Retry) else None
        return failed("tool_error", result.error, self._probe.redact, retryable=run.retry is not None)

    async def _admit(self) -> None:
        try:
            async with asyncio.timeout(self._admission):
                await self._threads.admit()
        except TimeoutError:
            raise NotAdmittedError from None

    def _time_left(self, call: ToolCall, tool: Tool) -> tuple[float, ErrorType]:
        """Give the seconds that the tool may run, and what it is called when they are over."""
        seconds = tool.timeout or self._timeout
        if call.deadline_ms is not None:
            left = (call.deadline_ms - self._clock.now_ms()) / 1000
            if left < seconds:
                return left, "deadline_exceeded"
        return seconds, "timeout"

    def _encode(self, tool: Tool, value: Any) -> Outcome:
        try:
            result = dumps(value)
        except NotJsonError as exc:
            return Failed("tool_error", clip(self._probe.redact(f"{tool.name} returned what is not JSON: {exc}")))
        if len(result) > self._limits.reply_bytes:
            message = f"{tool.name} returned {len(result)} bytes; {self._limits.reply_bytes} are allowed"
            return Failed("reply_too_large", message)
        nesting = self._limits.nesting
        if len(result) > nesting and not nested_within(result, nesting):
            return Failed("reply_too_large", f"{tool.name} returned more than {nesting} levels of nesting")
        return Succeeded(result)


def too_late() -> Failed:
    """Give the failure of a call that nobody waits for any more, and that was not begun."""
    return Failed("deadline_exceeded", "the deadline had passed before the tool was begun")


async def _given(result: Any) -> Any:
    return result
