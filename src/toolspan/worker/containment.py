"""Awaits what others wrote: whatever a tool or a program raises comes out as data, and harms nobody else."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NoReturn

from toolspan.model import Failed, value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from toolspan.model import ErrorType, Run

MAX_MESSAGE_CHARS: Final = 4_096


@value
class Raised:
    """What was raised instead of a result."""

    error: BaseException


async def contained(run: Run, task: asyncio.Task[None] | None, theirs: Awaitable[Any]) -> Any:
    """Await what is *theirs* in *task*, the current one, and give its result, or `Raised`.

    Cancellations count only where *run* says that they are ours. Any other came from inside: it is one of the ways to
    fail, and what is left of it must not meet what is ours to do afterwards.

    Raises:
        asyncio.CancelledError: if we have cancelled the run.
    """
    result: Any
    try:
        result = await theirs
    except BaseException as exc:
        if run.cancelled:
            raise asyncio.CancelledError from exc
        result = Raised(exc)
    if run.given_up:
        # Whatever it gives after it was cancelled was not known before.
        raise asyncio.CancelledError
    if task is not None and task.cancelling():
        while task.uncancel():
            continue
        # Before Python 3.13, a cancellation that is still to come is not taken back with its request.
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    return result


async def raising(error: BaseException) -> NoReturn:
    """Raise what was raised before there was anybody to await it."""
    raise error


def failed(kind: ErrorType, exc: BaseException, redact: Callable[[str], str], *, retryable: bool = False) -> Failed:
    """Describe a failure by the exception that was its reason, as far as *redact* lets people read it."""
    name = type(exc).__name__
    try:
        message = str(exc)
    except Exception:  # noqa: BLE001
        # An exception's own class may be as broken as what raised it.
        message = ""
    # Whole, before it is cut: half a secret looks like none.
    return Failed(kind, clip(redact(message) or name), retryable, {"exception": name}, redact(stack_of(exc)))


def clip(message: str) -> str:
    """Cut a message to what replies, dead letters and logs carry of one; half surrogates cannot travel at all."""
    whole = len(message) <= MAX_MESSAGE_CHARS
    return (message if whole else message[: MAX_MESSAGE_CHARS - 1] + "…").encode(errors="replace").decode()


def stack_of(exc: BaseException) -> str:
    """Format where *exc* came from."""
    return "".join(traceback.format_exception(exc)).encode(errors="replace").decode()
