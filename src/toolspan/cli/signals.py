"""SIGTERM and SIGINT, from the first moment on: imported, and installed, before anything heavy."""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator
    from types import FrameType


def install() -> None:
    """End the process with 0 on SIGTERM, until somebody wants to hear of it."""
    signal.signal(signal.SIGTERM, _leave)


@contextmanager
def told(loop: AbstractEventLoop, callback: Callable[[], None]) -> Iterator[None]:
    """Call *callback* on the loop for every SIGTERM and SIGINT that comes while the block lasts."""
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, callback)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        install()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)
