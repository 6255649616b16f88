"""A call that is answered as it goes on: server-sent events for its progress and its reply."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from toolspan.codec import dumps
from toolspan.gateway.answers import REFUSALS, answered, refused, traced
from toolspan.gateway.presence import while_connected

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from toolspan.gateway.streams import CallStream
    from toolspan.model import Progress

MEDIA_TYPE: Final = "text/event-stream"
KEEP_ALIVE_SECONDS: Final = 15.0
"""How long nothing may be sent: what stands between us and the client hangs up on silence."""

_KEEP_ALIVE: Final = b": keep-alive\n\n"


def asks_for_events(request: Request) -> bool:
    """Whether the client named our media type among those that it accepts."""
    for accept in request.headers.getlist("accept"):
        for offered in accept.split(","):
            kind, *parameters = (part.strip().lower() for part in offered.split(";"))
            if kind == MEDIA_TYPE:
                return not any(part.replace(" ", "") in {"q=0", "q=0.0", "q=0.00", "q=0.000"} for part in parameters)
    return False


class EventResponse(Response):
    """Events `progress`, and one `reply` at the end, whose data is the body of the plain answer.

    *stream* has been entered, and is left here; whoever hangs up cancels its call.
    """

    media_type = MEDIA_TYPE

    def __init__(self, stream: CallStream, *, keep_alive: float) -> None:
        # Proxies shall neither keep nor gather what is sent.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", **traced(stream.traceparent)}
        super().__init__(None, 200, headers)
        del self.headers["content-length"]
        self._stream = stream
        self._keep_alive = keep_alive

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send events as they come."""
        async with self._stream:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async with while_connected(receive):
                    await self._send_events(send)
            except ClientDisconnect:
                return
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, send: Send) -> None:
        following = asyncio.ensure_future(self._stream.next_progress())
        try:
            while True:
                done, _ = await asyncio.wait({following}, timeout=self._keep_alive)
                if not done:
                    await send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})
                    continue
                progress = following.result()
                if progress is None:
                    break
                await send(_event("progress", dumps(_progress(progress))))
                following = asyncio.ensure_future(self._stream.next_progress())
        finally:
            following.cancel()
        await send(_event("reply", await self._reply()))

    async def _reply(self) -> bytes:
        try:
            answer = answered(await self._stream.answer())
        except REFUSALS as exc:
            answer = refused(exc, call_id=self._stream.call_id)
        return bytes(answer.body)


def _progress(progress: Progress) -> dict[str, Any]:
    return {
        "id": progress.call_id,
        "entry_id": progress.entry_id,
        "status": "progress",
        "result": progress.value,
        "attempt": progress.attempt,
        "seq": progress.seq,
    }


def _event(name: str, data: bytes) -> dict[str, Any]:
    # JSON of ours has no line breaks, which would end the data.
    return {"type": "http.response.body", "body": b"event: %s\ndata: %s\n\n" % (name.encode(), data), "more_body": True}
