"""How a worker process lets its parent know whether it is ready: a line on a pipe, again and again."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, Self

from toolspan.codec import dumps, loads
from toolspan.health import Unready

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_PERIOD_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 6 * _PERIOD_SECONDS
"""A child that tells nothing for so long is frozen, whatever it told before."""

_NESTING: Final = 8
_MOST_BYTES: Final = 65_536


class Pulse:
    """Tells whether we are ready to whoever reads *pipe*, from a thread of its own, while the block lasts."""

    def __init__(self, pipe: int, unready: Callable[[], Unready | None]) -> None:
        self._pipe = pipe
        self._unready = unready
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        # What tools start is not ours to tell of.
        os.set_inheritable(self._pipe, False)
        os.set_blocking(self._pipe, False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._pipe)

    def _run(self) -> None:
        # Without a parent there is nobody to tell.
        with suppress(BrokenPipeError):
            self._tell()
            while not self._stop.wait(_PERIOD_SECONDS):
                self._tell()

    def _tell(self) -> None:
        unready = self._unready()
        # A parent that has not read for long knows nothing anyway. Lines of ours are written whole or not at all.
        with suppress(BlockingIOError):
            os.write(self._pipe, dumps(unready and asdict(unready)) + b"\n")


class Hearing:
    """What one child tells, while the block lasts; *pipe* is the end for the child, to be closed once it has it."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self._told: Unready | None = Unready("starting", "it has not told of itself yet")
        self._heard = time.monotonic()
        self._rest = b""

    def __enter__(self) -> Self:
        self._reader, self.pipe = os.pipe()
        os.set_blocking(self._reader, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._reader)
        os.close(self._reader)

    def unready(self) -> Unready | None:
        """Say why nothing should be sent to this child now; None if all is well. For any thread."""
        silent = time.monotonic() - self._heard
        if silent > _SILENT_SECONDS:
            return Unready("silent", f"it has told nothing of itself for {silent:.1f} s")
        return self._told

    def _listen(self) -> None:
        told = os.read(self._reader, _MOST_BYTES)
        if not told:
            # It ends, or has ended.
            self._loop.remove_reader(self._reader)
            return
        *lines, self._rest = (self._rest + told).split(b"\n")
        if lines:
            last = loads(lines[-1], nesting=_NESTING)
            self._told = None if last is None else Unready(**last)
            self._heard = time.monotonic()
