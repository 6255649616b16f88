"""Tells a process that stood still as a whole from one whose event loop did."""

from __future__ import annotations

import time
from typing import Final

_IDLE: Final = 0.02
"""The part of its time for which a process that was stopped has used the processor, at most."""


class Standstill:
    """Whether the whole process stood still while a thread of it waited, by *at_least* so many seconds.

    Nothing that blocks the event loop keeps that thread from waking up in time. If it does so far too late, and the
    processor was not ours meanwhile, nothing of us ran: SIGSTOP, a frozen container, a machine that slept. A tool that
    holds the interpreter makes it late as well, but uses the processor for it.
    """

    def __init__(self, *, at_least: float) -> None:
        self.seconds = 0.0
        """How long it stood still during the last wait; 0 if it did not."""
        self._at_least = at_least
        self._began = self._used = 0.0

    def begins(self) -> None:
        """The wait begins."""
        self._began, self._used = time.monotonic(), time.process_time()

    def ends(self, *, after: float) -> None:
        """The wait is over, which was to last *after* seconds at most."""
        late = time.monotonic() - self._began - after
        used = time.process_time() - self._used
        self.seconds = late if late > self._at_least and used < late * _IDLE else 0.0
