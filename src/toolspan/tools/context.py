"""What a running tool can ask about its call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from toolspan.telemetry.propagation import baggage_in

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from toolspan.model import Run, ToolCall


class Reporting(Protocol):
    """Where progress goes."""

    def on_loop(self) -> bool:
        """Whether we are asked on the loop of the worker."""

    async def write(self, run: Run, value: Any) -> None:
        """Tell of progress."""

    def write_blocking(self, run: Run, value: Any) -> None:
        """Tell of progress, from a thread."""


class CurrentCall:
    """The call that a tool is run for."""

    __slots__ = ("_call", "_now_ms", "_reporting", "_run", "attempt")

    def __init__(self, call: ToolCall, run: Run, now_ms: Callable[[], int], reporting: Reporting) -> None:
        self.attempt = run.delivery.attempt
        """Which attempt this is, from 1."""
        self._call = call
        self._run = run
        self._now_ms = now_ms
        self._reporting = reporting

    @property
    def id(self) -> str:
        """The call id: the same in every attempt, so that it can serve as an idempotency key."""
        return self._call.id

    @property
    def deadline(self) -> float | None:
        """When nobody waits any more, in unix seconds by Redis' clock; None if nobody said."""
        deadline_ms = self._call.deadline_ms
        return None if deadline_ms is None else deadline_ms / 1000

    def remaining(self) -> float | None:
        """Seconds until the deadline, never less than 0; None if there is none."""
        deadline_ms = self._call.deadline_ms
        return None if deadline_ms is None else max(0, deadline_ms - self._now_ms()) / 1000

    @property
    def idempotency_key(self) -> str | None:
        """The caller's idempotency key, if there is one."""
        return self._call.idem

    @property
    def principal(self) -> str | None:
        """Who asked, as the gateway knows it."""
        return self._call.principal

    @property
    def baggage(self) -> dict[str, str]:
        """The W3C baggage that the caller sent along, by name; empty if there is none."""
        return baggage_in(self._call.trace)

    @property
    def cancelled(self) -> bool:
        """Whether the tool should end: the caller gave up, the time is over, or the worker has to let go of the call.

        An `async def` tool is told by `asyncio.CancelledError`; a `def` tool, whose thread cannot be stopped, asks.
        """
        return self._run.cancelled or self._run.expired

    def progress(self, value: Any) -> Awaitable[None]:
        """Tell the caller how far this is, from an `async def` tool: `await current_call().progress({"found": 3})`.

        *value* is anything that a tool may return. Done once the caller's gateway can read it; a caller that does not
        keep pace, or cannot be reached, is not told, and one that waits for no reply never is.

        Raises:
            ValueError: if *value* is not JSON, or larger than a reply may be.
            RuntimeError: in the thread of a `def` tool, for `progress_sync` is for those.
        """
        if not self._reporting.on_loop():
            message = "a `def` tool tells of its progress by progress_sync()"
            raise RuntimeError(message)
        return self._reporting.write(self._run, value)

    def progress_sync(self, value: Any) -> None:
        """Do the same from a `def` tool.

        Raises:
            ValueError: if *value* is not JSON, or larger than a reply may be.
            RuntimeError: in an `async def` tool, whose loop it would block.
        """
        if self._reporting.on_loop():
            message = "an `async def` tool tells of its progress by `await progress()`"
            raise RuntimeError(message)
        self._reporting.write_blocking(self._run, value)


_CURRENT: ContextVar[tuple[ToolCall, Run, Callable[[], int], Reporting]] = ContextVar("toolspan_current_call")
"""What a `CurrentCall` is made of: most tools never ask for one."""


def current_call() -> CurrentCall:
    """Give the call that the calling tool is run for.

    Raises:
        LookupError: outside of a tool that a worker runs.
    """
    try:
        return CurrentCall(*_CURRENT.get())
    except LookupError:
        message = "no tool call is being run here"
        raise LookupError(message) from None


def run_for(call: ToolCall, run: Run, now_ms: Callable[[], int], reporting: Reporting) -> None:
    """Make *call* the current one of this task, and of what it starts, to its end."""
    _CURRENT.set((call, run, now_ms, reporting))
