"""Writes what has to be written until Redis takes it."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final, TypeVar

from toolspan.errors import GroupMissingError, ServerFullError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from toolspan.store.stream import StreamStore
    from toolspan.telemetry.catalog import Step
    from toolspan.telemetry.probe import Probe

T = TypeVar("T")

_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0


class Persistence:
    """Waits out whatever keeps Redis from taking a step; a group that is missing is made anew."""

    def __init__(self, store: StreamStore, probe: Probe) -> None:
        self._store = store
        self._probe = probe

    async def held(
        self, step: Step, write: Callable[[], Awaitable[T]], *, done: T | None = None, refused: T | None = None
    ) -> T:
        """Do *write* until Redis takes it; an answer *refused* means that it could not be written for now.

        After a lost answer, *done* stands for one that says no longer ours: it was done, by us.
        """
        wait = _FIRST_WAIT
        unsure = False
        while True:
            try:
                answer = await write()
            except StoreError as exc:
                unsure = unsure or (isinstance(exc, StoreUnavailableError) and exc.maybe_ran)
                await self._outage(step, exc)
            else:
                if answer != refused or refused is None:
                    self._probe.recovered(step)
                    return done if unsure and done is not None and not answer else answer
                self._probe.outage(step, ServerFullError("the dead letters cannot be written"))
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
            wait = min(wait * 2, _LONGEST_WAIT)

    async def _outage(self, step: Step, exc: StoreError) -> None:
        self._probe.outage(step, exc)
        if isinstance(exc, GroupMissingError):
            try:
                if await self._store.ensure_group():
                    self._probe.group_created()
            except StoreError as again:
                self._probe.outage(step, again)
