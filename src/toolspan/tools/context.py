"""What a running tool can ask about its call."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolspan.model import ToolCall


class CurrentCall:
    """The call that a tool is run for."""

    __slots__ = ("_call", "_now_ms", "attempt")

    def __init__(self, call: ToolCall, attempt: int, now_ms: Callable[[], int]) -> None:
        self.attempt = attempt
        """Which attempt this is, from 1."""
        self._call = call
        self._now_ms = now_ms

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


_CURRENT: ContextVar[CurrentCall] = ContextVar("toolspan_current_call")


def current_call() -> CurrentCall:
    """Give the call that the calling tool is run for.

    Raises:
        LookupError: outside of a tool that a worker runs.
    """
    try:
        return _CURRENT.get()
    except LookupError:
        message = "no tool call is being run here"
        raise LookupError(message) from None


def run_for(call: CurrentCall) -> None:
    """Make *call* the current one of this task, and of what it starts, to its end."""
    _CURRENT.set(call)
