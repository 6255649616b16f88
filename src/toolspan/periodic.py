"""The loop that every periodic role shares."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from toolspan.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from toolspan.telemetry.catalog import Step
    from toolspan.telemetry.probe import Probe

Asked: TypeAlias = bool | None
"""What a round gives: False if it has asked Redis nothing."""

LONGEST_TICK: Final = 0.25
"""Seconds: how often, at least, it is looked whether the event loop goes on."""

_JITTER: Final = 0.1
_CANCEL_AGAIN_SECONDS: Final = 0.05


async def every(
    seconds: float,
    sweep: Callable[[], Awaitable[Asked]],
    *,
    step: Step,
    until: asyncio.Event,
    probe: Probe,
    sooner: asyncio.Event | None = None,
) -> None:
    """Run *sweep* at once and then every *seconds*, a little more or less, until *until* is set.

    The next round comes at once where *sooner* is set; it is cleared then.
    A round that Redis fails is reported under *step*, and the next one tries again. One that gives False has asked
    Redis nothing, so that it tells nothing of an outage.
    """
    while not until.is_set():
        if sooner is not None:
            sooner.clear()
        try:
            if await sweep() is not False:
                probe.recovered(step)
        except StoreError as exc:
            probe.outage(step, exc)
        wait = seconds * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        if sooner is None:
            await pause(wait, until=until)
        else:
            await _first_of(until, sooner, within=wait)


async def ticks(seconds: float) -> AsyncIterator[float]:
    """Go on every *seconds*, for ever, and give by how many seconds the event loop was late each time."""
    while True:
        due = time.monotonic() + seconds
        await asyncio.sleep(seconds)
        yield max(0.0, time.monotonic() - due)


async def _first_of(*events: asyncio.Event, within: float) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=within, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def pause(seconds: float, *, until: asyncio.Event) -> bool:
    """Wait *seconds*, or less if *until* is set before; tell whether it is."""
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return False
    return True


async def ended(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* until they have ended.

    Once is not enough: what runs in them need not be ours, and `asyncio.wait_for` swallows on Python 3.11 a
    cancellation that meets the end of what it waits for.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)
