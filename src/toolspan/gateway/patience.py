"""HTTP/1.1 with a bound for how long a client may keep us waiting: for its head, its farewell, or its reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

HEAD_SECONDS: Final = 10.0
"""How long a client has for the head of a request, from its first byte on or from when it connected."""

FAREWELL_SECONDS: Final = 5.0
"""How long a client that has its answer may go on with the body that nobody reads any more."""

READING_SECONDS: Final = 30.0
"""How long a client may leave unread what it was sent."""

_OURS_TO_SAY: Final = (h11.IDLE, h11.SEND_RESPONSE)


class PatientProtocol(H11Protocol):
    """Hangs up on clients that hold a connection for nothing; how long a body may take is the application's matter."""

    _owing: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, and see what is still owed."""
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        """See what is still owed once there is an answer."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Wait until what was sent is read."""
        super().pause_writing()
        self._reading = self.loop.call_later(READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting for that."""
        super().resume_writing()
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def send_400_response(self, msg: str) -> None:
        """Say that it is no request, or hang up where another answer was begun already."""
        if self.conn.our_state in _OURS_TO_SAY and (self.cycle is None or self.cycle.response_complete):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def _look(self) -> None:
        seconds = 0.0 if self.transport.is_closing() else self._owed()
        if not seconds:
            self._stop()
        elif self._owing is None:
            # What comes meanwhile gains no time: whoever sends a byte now and then would have us wait for ever.
            self._owing = self.loop.call_later(seconds, self.transport.close)

    def _owed(self) -> float:
        """Give how long we wait for what the client owes us; 0: nothing, or the application waits for it."""
        if self.conn.their_state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            return HEAD_SECONDS
        if self.conn.their_state is h11.SEND_BODY and self.cycle.response_complete:
            return FAREWELL_SECONDS
        return 0.0

    def _stop(self) -> None:
        if self._owing is not None:
            self._owing.cancel()
            self._owing = None
