"""Keep-alive connections that post a call, read the answer and post the next.

`python -m benchmarks.http_load PORT COUNT` prints the rate. No client library: the load shall cost little beside what
it is to load.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final, cast

import uvloop

CONNECTIONS: Final = 32
_WARM: Final = 0.1
_BODY: Final = b'{"args":{"n":1}}'
_REQUEST: Final = (
    b"POST /v1/tools/echo/calls HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)


class _Load:
    """What all connections have in common."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.over = asyncio.get_running_loop().create_future()
        self._warm_at = count - int(count * _WARM)
        self._warm = (0.0, 0)

    def answered(self) -> bool:
        """Count an answer; False if it was the last."""
        self.left -= 1
        if self.left == self._warm_at:
            self._warm = (time.perf_counter(), self.left)
        if self.left == 0:
            began, calls = self._warm
            self.over.set_result(calls / (time.perf_counter() - began))
        return self.left > 0


class _Connection(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop gives is one, and does not say so.
        self._transport = cast("asyncio.WriteTransport", transport)
        self._post()

    def _post(self) -> None:
        self._transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, body = self._read.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._load.over.set_exception(RuntimeError(self._read.decode()))
            return
        self._read = b""
        if self._load.answered():
            self._post()


async def _main(port: int, count: int) -> float:
    load = _Load(count)
    for _ in range(CONNECTIONS):
        await asyncio.get_running_loop().create_connection(lambda: _Connection(load), "127.0.0.1", port)
    rate: float = await load.over
    return rate


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_main(int(sys.argv[1]), int(sys.argv[2])))))
