"""Calls that wait, and how fast they get fewer: what most cases measure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from benchmarks.case import Figure
from benchmarks.processes import Failure
from toolspan.codec import Codec, Limits
from toolspan.model import ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.processes import Program
    from benchmarks.stage import Stage

RATE: Final = Figure("rate", "calls/s")
CPU: Final = Figure("cpu", "CPU µs a call", 1)
SERVER: Final = Figure("server", "server's CPU µs a call", 1)
COMMANDS: Final = Figure("commands", "commands a call", 2)

_WARM: Final = 0.9
"""Counting begins when so much is left of the calls: until then modules are loaded and caches filled."""

_APPEND: Final = """
local fields, id = { unpack(ARGV, 4) }, tonumber(ARGV[3])
for number = ARGV[1], ARGV[2] do
  fields[id] = string.format('%032x', number)
  redis.call('XADD', KEYS[1], '*', unpack(fields))
end
"""
_APPEND_AT_ONCE: Final = 10_000

HELD_BACK: Final = "benchmark:held-back"
"""A stream that nobody reads: what lies there can be let in within a moment."""

_LET_IN: Final = """
local entries = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
for i = 1, #entries do
  redis.call('XADD', KEYS[2], '*', unpack(entries[i][2]))
end
redis.call('XTRIM', KEYS[1], 'MAXLEN', redis.call('XLEN', KEYS[1]) - #entries)
local count = #entries
entries = nil
-- What this has left would be collected, a piece at a time, by scripts that are measured; the table of all strings
-- shrinks by half in each round.
for _ = 1, 20 do
  collectgarbage()
end
return count
"""
_LET_IN_AT_ONCE: Final = 100_000

WARM_UP: Final = 2_000
_IDLE_SECONDS: Final = 0.5


def fill(
    stage: Stage, count: int, *, tool: str = "echo", args: Mapping[str, Any] | None = None, stream: str | None = None
) -> None:
    """Append *count* calls, as our callers would; to another *stream* than ours, if that is named."""
    call = ToolCall("?", tool, {"n": 1} if args is None else dict(args), reply_to=stage.keys.replies("bench"))
    fields: Any = Codec(stage.keys, Limits()).encode_call(call)
    append(stage, count, fields, stream=stream)


def append(stage: Stage, count: int, fields: Sequence[Any], *, stream: str | None = None) -> None:
    """Append *count* entries with these *fields*, each with an id of its own, and see that our stream has our group."""
    make_group(stage)
    place = fields.index("id") + 2
    for done in range(0, count, _APPEND_AT_ONCE):
        last = min(done + _APPEND_AT_ONCE, count)
        stage.look.eval(_APPEND, 1, stream or stage.keys.calls, done + 1, last, place, *fields)


def warm(stage: Stage, start: Callable[[Stage], Program]) -> Program:
    """Start a worker, have it settle some calls, and wait a moment, until it does nothing any more."""
    fill(stage, WARM_UP)
    worker = start(stage)
    reached(stage, worker, 0)
    time.sleep(_IDLE_SECONDS)
    return worker


def let_in(stage: Stage) -> None:
    """Have all calls wait that were held back so far: all at once, or so many that hardly any is begun meanwhile."""
    while stage.look.eval(_LET_IN, 2, HELD_BACK, stage.keys.calls, _LET_IN_AT_ONCE):
        pass


def make_group(stage: Stage) -> None:
    """Make our stream and our group, if they are not there."""
    if not stage.look.exists(stage.keys.calls):
        stage.look.xgroup_create(stage.keys.calls, stage.keys.group, "0", mkstream=True)


def left(stage: Stage) -> int:
    """Count the calls that are not settled: those are deleted."""
    return int(stage.look.xlen(stage.keys.calls))


@dataclass(frozen=True, slots=True)
class Mark:
    """What can be read off at one moment."""

    at: float
    left: int
    cpu: float
    server: float
    commands: int


def mark(stage: Stage, worker: Program, remaining: int) -> Mark:
    """Read everything off."""
    return Mark(time.monotonic(), remaining, worker.cpu_seconds(), stage.server_cpu_seconds(), stage.commands())


def drained(stage: Stage, worker: Program, count: int, left: Callable[[Stage], int] = left) -> dict[str, float]:
    """Wait until *count* calls that wait are settled, and tell how fast that went once it was under way."""
    begun = reached(stage, worker, int(count * _WARM), left)
    return between(begun, reached(stage, worker, 0, left))


def reached(stage: Stage, worker: Program, most: int, left: Callable[[Stage], int] = left) -> Mark:
    """Wait until no more than *most* calls are left, and read everything off."""
    remaining = 0

    def few() -> bool:
        nonlocal remaining
        remaining = left(stage)
        return remaining <= most

    stage.until(few, f"no more than {most} calls are left", worker)
    return mark(stage, worker, remaining)


def between(begun: Mark, ended: Mark) -> dict[str, float]:
    """Tell what happened between two moments, for each call that was settled meanwhile."""
    calls, seconds = begun.left - ended.left, ended.at - begun.at
    if calls <= 0:
        message = "all calls were settled before counting had begun: it takes more of them"
        raise Failure(message)
    cpu, server = ended.cpu - begun.cpu, ended.server - begun.server
    return {
        "rate": calls / seconds,
        "cpu": cpu / calls * 1e6,
        "server": server / calls * 1e6,
        "commands": (ended.commands - begun.commands) / calls,
        "server_busy": server / seconds,
        "busy": (cpu + server) / seconds,
    }
