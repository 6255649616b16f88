"""SIGTERM and SIGINT, from the first moment on: imported, and installed, before anything heavy."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Coroutine, Iterator
    from types import FrameType

T = TypeVar("T")

_IMPORTING: Final = "<frozen importlib"
_AGAIN_SECONDS: Final = 0.001


def install() -> None:
    """End the process with 0 on SIGTERM, until somebody wants to hear of it."""
    signal.signal(signal.SIGTERM, _leave)


def forget() -> None:
    """Let SIGTERM end the process by itself: where Python takes itself apart, an exception is a mess on stderr."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def outright() -> Iterator[None]:
    """End the process with 0 on SIGTERM, and let nobody catch that, while code that is not ours runs in the block."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    try:
        yield
    finally:
        install()


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


class InterruptError(Exception):
    """SIGINT came."""


async def cancelling(main: Coroutine[Any, Any, T]) -> T:
    """Run *main*, and cancel it on SIGTERM and SIGINT.

    What a signal's handler raises while the loop waits may be lost in the loop: it has to be told in another way. The
    handler that `asyncio.Runner` has for SIGINT now and then leaves uvloop deaf to threads, and so without an end.

    Raises:
        InterruptError: on SIGINT.
        asyncio.CancelledError: on SIGTERM.
    """
    loop, task, interrupted = asyncio.get_running_loop(), asyncio.current_task(), False
    assert task is not None  # noqa: S101 - for the type checker: a coroutine runs in a task

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await main
    except asyncio.CancelledError:
        if interrupted:
            raise InterruptError from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)
        install()


def _leave(_number: int, frame: FrameType | None) -> None:
    if not _is_put_off(frame):
        sys.exit(0)


def _send_again(_number: int, frame: FrameType | None) -> None:
    if not _is_put_off(frame):
        os.kill(os.getpid(), signal.SIGTERM)


def _is_put_off(frame: FrameType | None) -> bool:
    """In the middle of an import, have the signal sent again in a moment, to whoever listens by then.

    An exception between the opening of a module's file and its `with` would leave that open, and Python warns of that.
    """
    if frame is None or not frame.f_code.co_filename.startswith(_IMPORTING):
        return False
    signal.signal(signal.SIGALRM, _send_again)
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SECONDS)
    return True
