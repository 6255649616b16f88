"""Answers `/livez` and `/readyz` from a thread of its own, also while the event loop is blocked."""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from toolspan.codec import dumps
from toolspan.telemetry.events import health_started

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_MOST_BYTES: Final = 8_192
_MOST_CLIENTS: Final = 64
_SECONDS: Final = 2.0
"""How long a client has for all of it: to ask, to take its answer and to leave."""

_LEAVE_SECONDS: Final = 1.0
_METHODS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Unready:
    """Why nothing should be sent here now; the `error` of a refusal."""

    type: str
    message: str
    retryable: bool = True
    detail: Any = None


def listen(host: str, port: int) -> socket.socket:
    """Take *port* of *host*, 0 for any that is free.

    Raises:
        OSError: if it cannot be had.
    """
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


class HealthServer:
    """Answers on *listener* while the block lasts: live always, ready unless *unready* says why not.

    *unready* is asked in the server's own thread.
    """

    def __init__(self, listener: socket.socket, unready: Callable[[], Unready | None]) -> None:
        self._listener = listener
        self._unready = unready
        self._stop = asyncio.Event()
        self._clients: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        host, self.port = self._listener.getsockname()[:2]
        self._thread.start()
        health_started(host, self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_LEAVE_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._attend, sock=self._listener, limit=_MOST_BYTES)
        await self._stop.wait()
        server.close()
        for writer in self._clients.values():
            writer.transport.abort()
        attending = asyncio.all_tasks() - {asyncio.current_task()}
        if attending:
            # They notice; cancelled, each would be told of as an error on Python 3.11.
            await asyncio.wait(attending, timeout=_LEAVE_SECONDS)

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._clients[task] = writer
        if len(self._clients) > _MOST_CLIENTS:
            # Whoever connects and does not ask keeps nobody else from asking.
            next(iter(self._clients.values())).transport.abort()
        try:
            async with asyncio.timeout(_SECONDS):
                writer.write(self._answer(await _request(reader)))
                writer.write_eof()
                # To close with something unread would reset the connection, and the answer might be lost with it.
                while await reader.read(_MOST_BYTES):
                    pass
        except (OSError, asyncio.IncompleteReadError):
            # It left, or took too long: TimeoutError is an OSError.
            pass
        finally:
            del self._clients[task]
            writer.transport.abort()

    def _answer(self, request: bytes) -> bytes:
        line = request.partition(b"\r\n")[0].decode("latin-1").split(" ")
        if len(line) != 3 or not line[2].startswith("HTTP/1."):  # noqa: PLR2004 - method, path, version
            return _refusal(
                HTTPStatus.BAD_REQUEST, Unready("bad_request", "this is no request of HTTP/1", retryable=False)
            )
        method, path = line[0], line[1].partition("?")[0]
        if path not in {"/livez", "/readyz"}:
            message = "there are /livez and /readyz here, and nothing else"
            answer = _refusal(HTTPStatus.NOT_FOUND, Unready("not_found", message, retryable=False))
        elif method not in _METHODS:
            refused = Unready("method_not_allowed", f"ask with {' or '.join(_METHODS)}", retryable=False)
            answer = _refusal(HTTPStatus.METHOD_NOT_ALLOWED, refused, f"allow: {', '.join(_METHODS)}\r\n")
        elif path == "/livez":
            answer = _response(HTTPStatus.OK, {"status": "live"})
        else:
            unready = self._unready()
            answer = (
                _response(HTTPStatus.OK, {"status": "ready"})
                if unready is None
                else _refusal(HTTPStatus.SERVICE_UNAVAILABLE, unready)
            )
        return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else answer


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Read a request up to its body; empty if it is longer than any that we answer."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return b""


def _refusal(status: HTTPStatus, error: Unready, headers: str = "") -> bytes:
    return _response(status, {"status": "error", "error": asdict(error)}, f"toolspan-status: error\r\n{headers}")


def _response(status: HTTPStatus, body: Any, headers: str = "") -> bytes:
    content = dumps(body)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\nconnection: close\r\n{headers}\r\n"
    )
    return head.encode() + content
