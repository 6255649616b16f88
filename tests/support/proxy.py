"""A proxy between a client and Redis, for faults of a connection that are made for real."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Self

_BROKEN: Final = (ConnectionError, RuntimeError)
"""What it is to write to a connection that is no more; the second one is uvloop's word for it."""


class Proxy:
    """Passes bytes on, until a test says otherwise. Listens on a free loopback port."""

    def __init__(self, upstream_port: int) -> None:
        self._upstream_port = upstream_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server
        self._cut_before: bytes | None = None
        self._cut_after: bytes | None = None
        self._hold: bytes | None = None
        self._released = asyncio.Event()
        self.cuts = 0
        self.asked = self.answered = 0
        """Bytes that came from clients, and from the server."""
        self.holds = False
        self.refusing = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"

    def cut_before(self, command: bytes) -> None:
        """Cut the connection on which *command* comes next, before the server sees it."""
        self._cut_before = command

    def cut_after(self, command: bytes) -> None:
        """Let the next *command* run, and cut its connection before the answer goes back."""
        self._cut_after = command

    def hold(self, command: bytes) -> None:
        """Keep *command*, where it comes next, and what comes after it on its connection, until `let_go`."""
        self._hold = command

    def let_go(self) -> None:
        """Pass on what was kept."""
        self._released.set()

    def cut_all(self) -> None:
        """Cut every connection that is open."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.let_go()
        self.cut_all()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        except OSError:
            # The server is down, as it is for those who come to it directly.
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        swallow = asyncio.Event()
        down = asyncio.create_task(self._down(up_reader, writer, swallow))
        with suppress(*_BROKEN):
            while data := await reader.read(1 << 16):
                self.asked += len(data)
                if self._cut_before is not None and self._cut_before in data:
                    self._cut_before = None
                    self.cuts += 1
                    break
                if self._cut_after is not None and self._cut_after in data:
                    self._cut_after = None
                    swallow.set()
                if self._hold is not None and self._hold in data:
                    self._hold, self.holds = None, True
                    await self._released.wait()
                up_writer.write(data)
                await up_writer.drain()
        if not swallow.is_set():
            up_writer.transport.abort()
            writer.transport.abort()
        await down

    async def _down(
        self, up_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        with suppress(*_BROKEN):
            while data := await up_reader.read(1 << 16):
                self.answered += len(data)
                if swallow.is_set():
                    # The server has run it: this is its answer, which nobody gets.
                    self.cuts += 1
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
