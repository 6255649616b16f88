"""Many stories in few tasks, none of which notices."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.eventually import eventually
from toolspan.model import Delivery, Run
from toolspan.worker.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


_SEEN: ContextVar[str] = ContextVar("seen", default="")


@dataclass(eq=False)
class Piece:
    entry_id: str
    story: Callable[[Piece], Awaitable[None]]
    task: asyncio.Task[None] | None = None
    run: Run = field(default_factory=lambda: Run(Delivery("1-0", [], 1, "first", 0, 0, 0)))
    seen: list[Any] = field(default_factory=list)


class Watched:
    """Lanes, and what has ended of what was put on them."""

    def __init__(self) -> None:
        self.ended: dict[str, BaseException | None] = {}
        self._told = asyncio.Event()
        self.lanes: Lanes[Piece] = Lanes(self._begin, self._note)

    async def _begin(self, piece: Piece) -> None:
        await piece.story(piece)

    def _note(self, piece: Piece, error: BaseException | None) -> None:
        assert piece.entry_id not in self.ended
        self.ended[piece.entry_id] = error
        self._told.set()

    def add(self, name: str, story: Callable[[Piece], Awaitable[None]]) -> Piece:
        piece = Piece(name, story)
        self.lanes.add(piece)
        return piece

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.ended) < count:
                self._told.clear()
                await self._told.wait()


async def at_once(piece: Piece) -> None:
    piece.seen.append(asyncio.current_task())


async def waiting(piece: Piece) -> None:
    await at_once(piece)
    await asyncio.Event().wait()


async def waiting_once(piece: Piece) -> None:
    await at_once(piece)
    await asyncio.sleep(0)
    await at_once(piece)


async def test_stories_that_never_wait_share_a_task_and_keep_their_order() -> None:
    watched = Watched()
    pieces = [watched.add(str(number), at_once) for number in range(100)]
    await watched.until(100)

    assert list(watched.ended) == [str(number) for number in range(100)]
    assert len({piece.seen[0] for piece in pieces}) == 1


async def test_a_story_has_its_current_task_from_its_first_step_on() -> None:
    async def looks(piece: Piece) -> None:
        piece.seen.append((asyncio.current_task(), piece.task))
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        piece.seen.append((asyncio.current_task(), piece.task))

    watched = Watched()
    piece = watched.add("one", looks)
    await watched.until(1)

    ((first, own), (then, still)) = piece.seen
    assert first is own is then is still is not None
    assert watched.ended == {"one": None}
    assert piece.task is None


async def test_one_that_waits_keeps_its_task_and_those_behind_it_go_on() -> None:
    watched = Watched()
    one, two, three = watched.add("1", waiting), watched.add("2", at_once), watched.add("3", at_once)
    await watched.until(2)

    assert list(watched.ended) == ["2", "3"]
    assert one.task is one.seen[0]
    assert one.task is not two.seen[0]
    assert two.seen == three.seen
    assert one.task
    assert one.task.get_name() == "1"
    one.task.cancel()
    await watched.until(3)
    assert isinstance(watched.ended["1"], asyncio.CancelledError)


async def test_many_that_wait_begin_soon() -> None:
    """Each turn of the loop asks the system for what has come in: a turn for each of them would cost more than they."""
    watched = Watched()
    pieces = [watched.add(str(number), waiting) for number in range(256)]
    turns = 0
    while not all(piece.seen for piece in pieces):
        turns += 1
        await asyncio.sleep(0)

    assert turns < 32, f"{turns} turns of the loop until 256 have begun"
    for piece in pieces:
        assert piece.task
        piece.task.cancel()
    await watched.until(256)


async def test_cancelling_one_that_waits_is_nothing_to_its_neighbours() -> None:
    watched = Watched()
    pieces = [watched.add(str(number), waiting) for number in range(5)]
    await eventually(lambda: pieces[-1].seen, because="all of them are waiting")
    tasks = [piece.task for piece in pieces]
    assert tasks[2]
    tasks[2].cancel()
    await watched.until(1)

    assert list(watched.ended) == ["2"]
    assert len(set(tasks)) == 5
    assert not any(task.done() for task in tasks if task and task is not tasks[2])
    for task in tasks:
        assert task
        task.cancel()
    await watched.until(5)


@pytest.mark.parametrize("story", [at_once, waiting_once])
async def test_what_one_sets_in_its_context_the_next_does_not_see(story: Callable[[Piece], Awaitable[None]]) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def sets(piece: Piece) -> None:
        piece.seen.append(variable.get())
        variable.set(piece.entry_id)
        await story(Piece("other", story))
        piece.seen.append(variable.get())

    watched = Watched()
    pieces = [watched.add(str(number), sets) for number in range(3)]
    await watched.until(3)

    assert [piece.seen for piece in pieces] == [["unset", "0"], ["unset", "1"], ["unset", "2"]]
    assert variable.get() == "unset"


async def test_what_is_started_in_a_story_has_its_context() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="unset")

    async def starts(piece: Piece) -> None:
        variable.set(piece.entry_id)

        async def child() -> str:
            return variable.get()

        piece.seen.append(await asyncio.create_task(child()))

    watched = Watched()
    pieces = [watched.add(str(number), starts) for number in range(3)]
    await watched.until(3)

    assert [piece.seen for piece in pieces] == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_story_that_fails_is_told_and_the_next_is_run(*, waits: bool) -> None:
    async def fails(_: Piece) -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError

    watched = Watched()
    watched.add("1", fails)
    watched.add("2", at_once)
    await watched.until(2)

    assert isinstance(watched.ended["1"], KeyError)
    assert watched.ended["2"] is None


async def test_a_cancellation_comes_through_wherever_a_story_waits() -> None:
    begun = asyncio.Event()

    async def turns(_piece: Piece) -> None:
        begun.set()
        for _ in range(1_000):
            await asyncio.sleep(0)

    watched = Watched()
    piece = watched.add("1", turns)
    await begun.wait()
    assert piece.task
    piece.task.cancel()
    await watched.until(1)

    assert isinstance(watched.ended["1"], asyncio.CancelledError)


async def test_no_lane_is_open_where_there_is_nothing_to_run() -> None:
    watched = Watched()
    for number in range(100):
        watched.add(str(number), waiting_once if number % 3 else at_once)
    await watched.until(100)
    await asyncio.sleep(0)

    assert watched.lanes._open == 0


async def test_what_leaves_nothing_to_be_done_is_over_and_nobody_is_told() -> None:
    begun: list[tuple[Piece, asyncio.Task[Any] | None]] = []
    ended: list[Piece] = []

    def begin(piece: Piece) -> None:
        _SEEN.set(piece.entry_id)
        begun.append((piece, piece.task))

    lanes: Lanes[Piece] = Lanes(begin, lambda piece, _: ended.append(piece))
    pieces = [Piece(str(number), at_once) for number in range(3)]
    lanes.add(*pieces)
    await eventually(lambda: len(begun) == 3, because="all have begun")

    assert [piece for piece, _ in begun] == pieces
    assert len({task for _, task in begun}) == 1
    assert [piece.task for piece in pieces] == [None] * 3
    assert ended == []
    assert _SEEN.get() == ""


async def test_the_loop_has_its_turn_while_many_are_run() -> None:
    begun = 0
    seen: list[int] = []

    def begin(_: Piece) -> None:
        nonlocal begun
        begun += 1

    lanes: Lanes[Piece] = Lanes(begin, lambda *_: None)
    lanes.add(*(Piece(str(number), at_once) for number in range(1_000)))
    while begun < 1_000:
        await asyncio.sleep(0)
        seen.append(begun)

    assert len(seen) >= 10


async def test_one_that_was_cancelled_before_its_turn_is_not_begun() -> None:
    watched = Watched()
    piece = watched.add("1", at_once)
    piece.run.cancelled = True
    await watched.until(1)

    assert piece.seen == []


def _without_context(loop: asyncio.AbstractEventLoop, story: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Make tasks as was enough for long."""
    return asyncio.Task(story, loop=loop)


# Tasks that begin at once came with Python 3.12.
@pytest.mark.parametrize(
    "factory", [one for one in (_without_context, getattr(asyncio, "eager_task_factory", None)) if one]
)
async def test_a_program_may_make_tasks_in_its_own_way(factory: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        watched = Watched()
        pieces = [watched.add(str(number), waiting_once) for number in range(2_000)]
        apart = Piece("apart", at_once)
        watched.lanes.run_apart(apart, at_once(apart))
        await watched.until(2_001)
    finally:
        loop.set_task_factory(None)

    assert all(len(piece.seen) == 2 for piece in pieces)
    assert apart.task is None


async def test_what_comes_while_a_lane_runs_is_run_by_it() -> None:
    watched = Watched()

    async def adds(piece: Piece) -> None:
        await at_once(piece)
        piece.seen.append(watched.add("2", at_once))

    first = watched.add("1", adds)
    await watched.until(2)

    task, second = first.seen
    assert second.seen == [task]


async def test_another_story_takes_the_place_of_one_that_goes_on() -> None:
    release = asyncio.Event()

    async def stubborn(_: Piece) -> None:
        await release.wait()

    watched = Watched()
    piece = watched.add("1", stubborn)
    await eventually(lambda: piece.task is not None, because="it has begun")
    before = piece.task
    watched.lanes.run_apart(piece, waiting_once(piece))
    release.set()
    after = piece.task
    assert before
    await asyncio.wait({before})
    await watched.until(1)

    # It is told once, of the other.
    assert piece.seen == [after, after]
    assert watched.ended == {"1": None}
