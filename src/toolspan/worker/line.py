"""The calls of one tool that wait in this worker until its limits let them begin, and those that had no place here."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from toolspan.tools.registry import Tool

_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 30.0
_RETURNS_PER_SECOND: Final = 100
"""So many that were turned away may come back in a second, and be turned away again."""

_REMEMBERED: Final = 10_000


class NotAdmittedError(Exception):
    """The tool was not begun in time: a limit was in its way, or threads that are taken by calls that do not end."""


@dataclass(slots=True, eq=False)
class Waiting:
    """One call in the line. *turn* is true once it may begin, false when it is not to wait any longer."""

    entry_id: str
    turn: asyncio.Future[bool]
    times: int
    """How often it was turned away before."""


class Line:
    """Waits in the order in which calls came; what it remembers of those that were turned away is bounded."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self.ended: list[str] = []
        """Entries whose run is over, or never was, and whose slots are to be given back."""
        self.ask_at = float("inf")
        """When Redis is to be asked next, by the monotonic clock."""
        self.yield_at = float("inf")
        """When it is the turn of other workers, because this line has been asking for long."""
        self.yields_until = 0.0
        self._waiting: deque[Waiting] = deque()
        self._away: dict[str, int] = {}
        """How often each call was turned away that is not back yet, as far as we know."""

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, entry_id: str) -> Waiting:
        """Wait at the end of the line."""
        joined = Waiting(entry_id, asyncio.get_running_loop().create_future(), self._away.pop(entry_id, 0))
        self._waiting.append(joined)
        return joined

    def leave(self, left: Waiting, *, admitted: bool) -> None:
        """Wait no longer."""
        self._waiting.remove(left)
        if not admitted:
            self._away[left.entry_id] = left.times

    def first(self, count: int) -> list[Waiting]:
        """Give those who wait for longest and have not been told anything."""
        return [one for one in self._waiting if not one.turn.done()][:count]

    def turned_away(self, entry_id: str) -> int:
        """Remember that a call could not begin here, and give the milliseconds until it shall be tried again."""
        times = self._away.pop(entry_id, 0)
        self._away[entry_id] = times + 1
        if len(self._away) > _REMEMBERED:
            del self._away[next(iter(self._away))]
        seconds = max(_FIRST_SECONDS * 2.0**times, len(self._away) / _RETURNS_PER_SECOND)
        return int(min(seconds, _LONGEST_SECONDS) * random.uniform(800, 1200))  # noqa: S311

    @property
    def any_away(self) -> bool:
        """Whether there may be calls that were turned away and are not back yet."""
        return bool(self._away)

    def recalled(self, count: int) -> list[str]:
        """Give those that were turned away first, so that they can be tried sooner than was said."""
        ids = list(self._away)[:count] if count > 0 else []
        for entry_id in ids:
            del self._away[entry_id]
        return ids
