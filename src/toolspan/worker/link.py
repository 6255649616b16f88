"""How long this worker has been connected to Redis without a break."""

from __future__ import annotations

import time


class Link:
    """What the heartbeat and the fetcher know of the connection.

    After an outage longer than a lease, every call of a live fleet looks like an orphan until its owner could renew
    it. So a worker takes nothing over before it has been connected for a while.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def works(self) -> None:
        """Redis answered a heartbeat."""
        if self._since is None:
            self._since = time.monotonic()

    def broke(self) -> None:
        """Redis could not be reached."""
        self._since = None

    @property
    def unbroken(self) -> float:
        """Seconds since the connection last came about; 0 while it is down."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since
