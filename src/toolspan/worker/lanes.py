"""Runs the stories of many works in few tasks: a task for each costs more than a quick call altogether."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from toolspan.model import Run


_MOST: Final = 1_024
"""How many lanes are open at once."""

_IN_A_ROW: Final = 25
"""After so many stories the loop goes on: while they run, Redis shall settle the last ones and hand out the next."""

_TURNS: Final = 2
"""So many turns of the loop does it take from an answer of Redis to the command that follows from it."""


class Runnable(Protocol):
    """What a story is told of. *task* is the one that runs it; None before it is begun, and once it has ended."""

    task: asyncio.Task[None] | None
    run: Run

    @property
    def entry_id(self) -> str:
        """What the task is named after."""


T = TypeVar("T")
Work = TypeVar("Work", bound=Runnable)


class Lanes(Generic[Work]):
    """Runs one story for each work, in the order in which they come, and each in a context of its own.

    *begin* goes as far as it gets without waiting, and gives the coroutine of the rest; None, if that was all and
    nobody need be told. Otherwise *ended* is told.

    A lane is a task that runs one story after the other, for as long as none has to wait. The first that does keeps
    the task, and those behind it go on in new lanes. So every story has a task that is its own for as long as it can
    be cancelled: what has never waited has ended before anybody could ask for it.
    """

    def __init__(
        self,
        begin: Callable[[Work], Coroutine[Any, None, None] | None],
        ended: Callable[[Work, BaseException | None], None],
    ) -> None:
        self._begin = begin
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._queue: deque[Work] = deque()
        self._open = 0
        """How many lanes take works from the queue, or will in a moment."""
        self._wanted = 1
        """How many of them there shall be: where one had to wait, the next ones will, and each of them takes a lane."""

    @property
    def busy(self) -> bool:
        """Whether stories are still to be begun, each of them within a few turns of the loop."""
        return bool(self._queue)

    def add(self, *works: Work) -> None:
        """Run the stories of *works* once their turn has come; one that is cancelled before is not begun."""
        self._queue.extend(works)
        self._open_lanes()

    def run_apart(self, work: Work, story: Coroutine[Any, None, None]) -> None:
        """Run another *story* of *work*, in a task of its own from the start."""
        make = partial(self._loop.create_task, self._apart(work, story), name=work.entry_id)
        task = self._context.copy().run(make)
        if not task.done():
            work.task = task

    def _open_lanes(self) -> None:
        for _ in range(min(self._wanted, len(self._queue)) - self._open):
            self._open += 1
            if self._loop.get_task_factory() is None:
                self._make()
            else:
                # A program may have its tasks begin at once: then one lane would run in another, and so on.
                self._loop.call_soon(self._make)

    def _make(self) -> asyncio.Task[None]:
        return self._context.copy().run(partial(self._loop.create_task, self._run(), name="lane"))

    async def _run(self) -> None:
        lane = asyncio.current_task()
        left = _IN_A_ROW
        while self._queue:
            if not left:
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                left = _IN_A_ROW
                continue
            left -= 1
            work = self._queue.popleft()
            if work.run.cancelled:
                self._ended(work, None)
                continue
            work.task = lane
            step = self._context.copy().run
            waited = False
            error: BaseException | None = None
            try:
                story = step(self._begin, work)
                if story is None:
                    work.task = None
                    self._wanted = 1
                    continue
                waits_for = step(story.send, None)
                waited = True
                self._leave_to(work)
                await rest(step, story, waits_for)
            except StopIteration:
                # It has ended without having had to wait.
                self._wanted = 1
            except (asyncio.CancelledError, Exception) as exc:  # noqa: BLE001
                error = exc
            # Another story may have taken its place meanwhile, see `run_apart`.
            if work.task is lane:
                work.task = None
                self._ended(work, error)
            if waited:
                return
        self._open -= 1

    def _leave_to(self, work: Work) -> None:
        """Leave a lane to *work*, which has to wait."""
        if work.task is not None:
            work.task.set_name(work.entry_id)
        self._wanted = min(2 * self._wanted, _MOST)
        self._open -= 1
        self._open_lanes()

    async def _apart(self, work: Work, story: Coroutine[Any, None, None]) -> None:
        error: BaseException | None = None
        try:
            await story
        except (asyncio.CancelledError, Exception) as exc:  # noqa: BLE001
            error = exc
        work.task = None
        self._ended(work, error)


@types.coroutine
def rest(step: Callable[..., Any], begun: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Await what has *begun* and *waits_for* something, and give what it gives; *step* calls each part that is left."""
    resume: Callable[..., Any]
    given: BaseException | None
    while True:
        try:
            yield waits_for
        except BaseException as exc:  # noqa: BLE001
            resume, given = begun.throw, exc
        else:
            resume, given = begun.send, None
        try:
            waits_for = step(resume, given)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
