"""What turns moments of the monotonic clock into unix time, for both ends of a span alike."""

from __future__ import annotations

import time


def offset_ns() -> int:
    """Give what has to be added to the monotonic clock, in nanoseconds, as things are now.

    A clock that is set, or a machine that slept, changes it: take it once for each span and what lies below, so that
    none of them can end before it starts.
    """
    return time.time_ns() - time.monotonic_ns()
