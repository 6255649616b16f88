"""The gateway of a soak: calls tools until SIGTERM, and writes down what came of each, and after how many seconds.

SIGUSR1 makes its clock jump.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from toolspan import ToolClient

_AT_ONCE: Final = 4
_PAUSE_SECONDS: Final = 0.1
_TIMEOUT: Final = 600.0
"""Longer than any call should take, even one that waits behind a hundred that kill their workers: none is given up."""
_GRACE_SECONDS: Final = 10.0
_LONGEST_JUMP: Final = 86_400

_ahead = 0


def _jumping(right: Callable[[], Any], factor: int) -> Callable[[], Any]:
    return lambda: right() + _ahead * factor


# Before anything that might have taken the right clock for itself is imported.
time.time = _jumping(time.time, 1)
time.time_ns = _jumping(time.time_ns, 10**9)


def _jump() -> None:
    global _ahead  # noqa: PLW0603 - a process has one clock
    _ahead = random.randint(-_LONGEST_JUMP, _LONGEST_JUMP)


async def _call(tools: ToolClient, n: int) -> str:
    """Call a tool, one of four times without a key, and say what came of it."""
    from toolspan import RedisUnavailable, ToolspanError  # noqa: PLC0415

    key = f"{os.getpid()}-{n}" if n % _AT_ONCE else None
    try:
        reply = await tools.call("slow", {"n": n}, timeout=_TIMEOUT, idempotency_key=key)
    except RedisUnavailable as exc:
        # Unsure is where no answer to the append has come, and no reply: it may never have been one.
        return "unsure" if exc.maybe_accepted else "refused"
    except ToolspanError as exc:
        return repr(exc)
    return "ok" if reply.result == n else repr(reply.result)


async def _go_on(tools: ToolClient, first: int, file: Any, stopping: asyncio.Event) -> None:
    n = first
    while not stopping.is_set():
        began = time.monotonic()
        end = await _call(tools, n)
        file.write(f"{n} {time.monotonic() - began:.1f} {end}\n")
        file.flush()
        n += _AT_ONCE
        await asyncio.sleep(_PAUSE_SECONDS)


async def _main() -> None:
    from toolspan import ToolClient  # noqa: PLC0415

    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, _jump)
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    path = Path(os.environ["SOAK_FOLDER"]) / f"called-{os.getpid()}"
    with path.open("w") as file:
        async with ToolClient() as tools, asyncio.TaskGroup() as group:
            unkeyed, *_ = [group.create_task(_go_on(tools, first, file, stopping)) for first in range(_AT_ONCE)]
            await stopping.wait()
            # Where its append was cut off, nobody knows of it; those with a key are sent again.
            await asyncio.wait({unkeyed}, timeout=_GRACE_SECONDS)
            unkeyed.cancel()


if __name__ == "__main__":
    # Until the loop listens, neither signal shall end us.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    asyncio.run(_main())
    sys.exit(0)
