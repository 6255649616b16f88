"""Somebody with a socket and PROTOCOL, and nothing of ours."""

from __future__ import annotations

import json
import socket
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import WorkerProcess

WAIT_MS: Final = 15_000
_numbers = count()


class Resp:
    """Sends commands as redis-cli would, and gives the answers as they come."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(2 * WAIT_MS / 1000)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def __call__(self, *parts: str | bytes | float) -> Any:
        raw = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        self._socket.sendall(b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in raw))
        return self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def _answer(self) -> Any:
        line = self._lines.readline()[:-2]
        kind, rest = line[:1], line[1:]
        assert kind != b"-", rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._lines.read(int(rest) + 2)[:-2].decode(errors="surrogateescape")
        if kind == b"*":
            return None if rest == b"-1" else [self._answer() for _ in range(int(rest))]
        return rest.decode()


class Outside:
    """One plane in which a worker process serves the tools of the tests under the label `outside`."""

    def __init__(self, redis: Resp, prefix: str, worker: WorkerProcess) -> None:
        self.redis = redis
        self.prefix = prefix
        self.worker = worker
        self.calls = f"{prefix}:stream:tools"
        self.group = f"{prefix}:tools"

    def reply_to(self) -> str:
        """Name a reply stream that nobody else has."""
        return f"{self.prefix}:reply:caller-{next(_numbers)}"

    def append(self, *fields: str) -> str:
        """Append a call."""
        entry_id: str = self.redis("XADD", self.calls, "*", *fields)
        return entry_id

    def orphan(self, *fields: str, attempts: int, record: list[dict[str, Any]], mark: str = "") -> str:
        """Append a call whose worker died an hour ago, with what it left on record."""
        entry_id: str = self.redis(
            "EVAL", _ORPHAN, 2, self.calls, f"{self.prefix}:attempts:tools",
            self.group, attempts, json.dumps(record), mark, *fields,
        )  # fmt: skip
        return entry_id

    def answer(self, reply_to: str) -> dict[str, str]:
        """Wait for the first reply of a stream."""
        found = self.redis("XREAD", "COUNT", 1, "BLOCK", WAIT_MS, "STREAMS", reply_to, "0")
        assert found, f"no reply within {WAIT_MS} ms:\n{self.worker.log.read_text()}"
        return _dict(found[0][1][0][1])

    def letter(self, entry_id: str) -> dict[str, str]:
        """Wait for the dead letter of an entry."""
        key, last = f"{self.prefix}:dlq:tools", "0"
        while True:
            found = self.redis("XREAD", "BLOCK", WAIT_MS, "STREAMS", key, last)
            assert found, f"no dead letter within {WAIT_MS} ms:\n{self.worker.log.read_text()}"
            for last, fields in found[0][1]:  # noqa: B007 - where to go on
                letter = _dict(fields)
                if letter["dlq.id"] == entry_id:
                    return letter

    def events(self, entry_id: str) -> list[dict[str, str]]:
        """The exceptional steps of an entry so far."""
        found = [_dict(fields) for _, fields in self.redis("XRANGE", f"{self.prefix}:events:tools", "-", "+")]
        return [event for event in found if entry_id in event["entry"].split(" ")]

    def attempts(self, entry_id: str) -> list[dict[str, Any]]:
        """What is on record of an entry."""
        raw = self.redis("HGET", f"{self.prefix}:attempts:tools", entry_id)
        return [] if raw is None else list(json.loads(raw))

    def hash(self, key: str) -> dict[str, str]:
        """A hash."""
        return _dict(self.redis("HGETALL", key))

    def now_ms(self) -> int:
        """Redis' clock."""
        seconds, micros = self.redis("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def _dict(fields: list[str]) -> dict[str, str]:
    names = fields[::2]
    assert len(set(names)) == len(names), f"a field is there twice: {names}"
    return dict(zip(names, fields[1::2], strict=True))


_ORPHAN: Final = """
local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 5))
redis.call('XCLAIM', KEYS[1], ARGV[1], 'ghost', 0, id,
  'IDLE', 3600000, 'RETRYCOUNT', ARGV[2], 'FORCE', 'JUSTID', 'LASTID', id)
if ARGV[3] ~= '[]' then redis.call('HSET', KEYS[2], id, ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], id .. ':mark', ARGV[4]) end
return id
"""
