"""What a worker holds, and how much more it may take."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from toolspan.model import Delivery, Failed, Run, ToolCall
from toolspan.worker.inflight import InFlight, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from toolspan.worker.inflight import Work

LOST = Verdict("worker_lost", Failed("quarantined", "lost"))


def run(entry_id: str, *, attempt: int = 1, losses: int = 0, tool: str = "echo") -> Run:
    delivery = Delivery(entry_id, [], attempt, "first", 0, 0, 0, losses=losses)
    return Run(delivery, ToolCall(entry_id, tool, {}))


class Doing:
    """Works on deliveries by one coroutine of a test."""

    def __init__(self, begin: Callable[[Work], Coroutine[None, None, None]]) -> None:
        self.begin = begin

    async def contained(self, _work: Work, story: Awaitable[None]) -> None:
        await story


class Holding:
    """An InFlight whose works end when they are let."""

    def __init__(self, limit: int = 3) -> None:
        self.inflight = InFlight(Doing(self._process), limit=limit)
        self.works: dict[str, Work] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def _process(self, work: Work) -> None:
        self.works[work.entry_id] = work
        await self._ends.setdefault(work.entry_id, asyncio.Event()).wait()

    def end(self, entry_id: str) -> None:
        self._ends.setdefault(entry_id, asyncio.Event()).set()

    async def end_all(self) -> None:
        for entry_id in self.inflight.entry_ids():
            self.end(entry_id)
        await self.inflight.wait_until_gone(self.inflight)


async def test_room_is_what_is_left_of_the_limit() -> None:
    holding = Holding(limit=2)
    inflight = holding.inflight
    before = inflight.room
    inflight.add(run("1-0"))
    one = inflight.room
    inflight.add(run("2-0"))

    assert (before, one, inflight.room, len(inflight)) == (2, 1, 0, 2)
    assert inflight.entry_ids() == ["1-0", "2-0"]
    await holding.end_all()
    assert (inflight.room, len(inflight)) == (2, 0)


@pytest.mark.parametrize(("lost", "forgotten", "begins"), [(False, False, 1), (True, False, 2), (False, True, 2)])
async def test_what_was_handed_out_anew_before_its_end_was_taken_is_not_begun_again(
    *, lost: bool, forgotten: bool, begins: int
) -> None:
    begun = 0

    async def count(work: Work) -> None:
        nonlocal begun
        begun += 1
        work.settling = True

    inflight = InFlight(Doing(count), limit=3)
    inflight.forget_ended()
    inflight.take([run("7-1").delivery])
    await eventually(lambda: begun == 1, because="it runs")
    (work,) = inflight
    work.ended, work.lost = True, lost
    inflight.settled(work)
    if forgotten:
        inflight.forget_ended()
    inflight.take([run("7-1").delivery, run("8-1").delivery])
    await eventually(lambda: begun == 1 + begins, because="what is left of them runs")

    assert len(inflight) == begins


async def test_whoever_waits_for_room_hears_of_the_first_end() -> None:
    holding = Holding(limit=1)
    holding.inflight.add(run("1-0"))
    waiting = asyncio.create_task(holding.inflight.wait_for_room())
    holding.end("1-0")

    assert await waiting is True
    assert holding.inflight.room == 1


async def test_nobody_waits_for_room_any_more_once_it_is_closed() -> None:
    holding = Holding(limit=1)
    holding.inflight.add(run("1-0"))
    waiting = asyncio.create_task(holding.inflight.wait_for_room())
    asyncio.get_running_loop().call_soon(holding.inflight.close)

    assert await waiting is False
    await holding.end_all()
    assert holding.inflight.room == 0


async def test_an_entry_that_is_in_flight_is_never_started_again() -> None:
    holding = Holding()
    inflight = holding.inflight
    inflight.add(run("1-0", attempt=1))
    inflight.add(run("1-0", attempt=3))
    (work,) = inflight

    assert len(inflight) == 1
    # Its run takes over the new delivery's attempt.
    assert work.run.delivery.attempt == 3
    await holding.end_all()


async def test_what_a_new_delivery_left_on_record_is_cleared_away_by_the_run_that_goes_on() -> None:
    holding = Holding()
    holding.inflight.add(run("1-0"))
    await eventually(lambda: holding.works, because="it has begun")
    holding.inflight.add(run("1-0", attempt=2), recorded=True)

    assert holding.works["1-0"].recorded
    await holding.end_all()


@pytest.mark.parametrize("starting", [False, True])
async def test_giving_up_leaves_a_start_that_is_under_way_to_end(*, starting: bool) -> None:
    holding = Holding()
    holding.inflight.add(run("1-0"))
    await asyncio.sleep(0)
    (work,) = holding.inflight
    work.starting = starting
    told = (work.give_up(), work.give_up())
    holding.end("1-0")
    await holding.inflight.wait_until_gone(holding.inflight)

    assert told == (True, False)
    assert work.run.given_up
    assert work.run.cancelled is not starting


async def test_two_suspects_are_never_held_at_once() -> None:
    holding = Holding()
    inflight = holding.inflight
    inflight.add(run("1-0", losses=1))
    inflight.add(run("2-0", losses=2), verdict=LOST)
    before = inflight.suspects
    inflight.add(run("3-0", losses=2))

    # One that is only quarantined is not run, and takes nobody down.
    assert (before, inflight.suspects) == (1, 0)
    await holding.end_all()
    assert inflight.suspects == 1


@pytest.mark.parametrize(
    ("attempt", "starting", "cancelled"),
    [(2, False, True), (1, False, False), (2, True, False)],
    ids=["believed", "of another attempt", "while a start is under way"],
)
async def test_a_loss_is_believed_only_of_the_attempt_that_was_asked_for(
    *, attempt: int, starting: bool, cancelled: bool
) -> None:
    holding = Holding()
    holding.inflight.add(run("1-0", attempt=2))
    (work,) = holding.inflight
    work.starting = starting
    holding.inflight.lose("1-0", attempt)
    holding.end("1-0")
    await holding.inflight.wait_until_gone(holding.inflight)

    assert work.lost is cancelled
    assert work.run.cancelled is cancelled


async def test_a_run_whose_end_is_known_is_not_cancelled_when_it_is_lost() -> None:
    holding = Holding()
    holding.inflight.add(run("1-0"))
    (work,) = holding.inflight
    work.decided = True
    holding.inflight.lose("1-0", 1)
    await holding.end_all()

    assert work.lost is True
    assert not work.run.cancelled


async def test_what_waits_for_its_reply_to_be_written_is_held_without_a_task_until_it_is_let_go() -> None:
    async def hand_over(work: Work) -> None:
        work.settling = True

    inflight = InFlight(Doing(hand_over), limit=1)
    inflight.add(run("1-0"))
    (work,) = inflight
    await eventually(lambda: work.task is not None or work.settling, because="it has begun")
    gone = asyncio.create_task(inflight.wait_until_gone([work]))
    await asyncio.sleep(0)

    assert (inflight.room, len(inflight), gone.done()) == (0, 1, False)
    inflight.settled(work)
    await gone
    assert (inflight.room, len(inflight)) == (1, 0)


async def test_a_tool_that_goes_on_after_its_call_was_settled_keeps_its_place() -> None:
    end = asyncio.Event()

    async def stubborn(_: Work) -> None:
        await end.wait()

    inflight = InFlight(Doing(stubborn), limit=1)
    inflight.add(run("1-0"))
    (work,) = inflight
    await eventually(lambda: work.task is not None or work.settling, because="it has begun")
    work.settling = True
    inflight.settled(work)
    before = inflight.room
    end.set()
    await inflight.wait_until_gone(inflight)

    assert (before, inflight.room) == (0, 1)


async def test_a_tool_that_goes_on_after_its_reply_was_refused_keeps_its_place() -> None:
    end = asyncio.Event()
    told: list[str] = []

    async def stubborn(_: Work) -> None:
        await end.wait()

    async def refused(work: Work) -> None:
        told.append(work.entry_id)

    inflight = InFlight(Doing(stubborn), limit=1)
    inflight.add(run("1-0"))
    (work,) = inflight
    await eventually(lambda: work.task is not None or work.settling, because="it has begun")
    inflight.go_on(work, refused)
    await eventually(lambda: told, because="what was refused is told")
    before = inflight.room
    end.set()
    await inflight.wait_until_gone([work])

    assert (before, inflight.room) == (0, 1)


async def test_a_work_whose_reply_was_refused_goes_on_and_is_let_go_at_its_end() -> None:
    async def hand_over(work: Work) -> None:
        work.settling = True

    inflight = InFlight(Doing(hand_over), limit=1)
    inflight.add(run("1-0"))
    (work,) = inflight
    inflight.add(run("1-0", attempt=2))
    await eventually(lambda: work.settling, because="it is handed over")
    end = asyncio.Event()

    async def rest(work: Work) -> None:
        work.settling = False
        await end.wait()

    inflight.go_on(work, rest)
    await asyncio.sleep(0)
    assert inflight.room == 0
    end.set()
    await inflight.wait_until_gone(inflight)
    assert work.run.delivery.attempt == 2


async def test_a_loss_of_what_is_not_held_is_no_matter() -> None:
    Holding().inflight.lose("1-0", 1)


async def test_what_waits_for_a_new_group_takes_up_no_room_until_it_is_handed_out_again() -> None:
    holding = Holding(limit=1)
    inflight = holding.inflight
    inflight.add(run("1-0"))
    (work,) = inflight
    waiting = asyncio.create_task(inflight.wait_for_adoption(work, 60))
    has_room = await inflight.wait_for_room()
    inflight.add(run("1-0", attempt=1))
    await waiting

    assert has_room
    assert inflight.room == 0
    await holding.end_all()


async def test_releases_are_counted_per_entry_until_they_are_forgotten() -> None:
    holding = Holding()
    inflight = holding.inflight
    inflight.add(run("1-0", tool="search"))
    (work,) = inflight
    times = [inflight.remember_release(work) for _ in range(3)]

    assert times == [0, 1, 2]
    assert inflight.released() == [("1-0", "search")]
    inflight.forget_release("1-0")
    assert inflight.released() == []
    await holding.end_all()


async def test_releases_are_not_remembered_without_a_bound() -> None:
    inflight = Holding().inflight
    for number in range(1_500):
        inflight.add(run(f"{number}-0"))
        inflight.remember_release(list(inflight)[-1])
        inflight.lose(f"{number}-0", 1)
    await inflight.wait_until_gone(inflight)

    kept = [entry_id for entry_id, _ in inflight.released()]
    assert kept == [f"{number}-0" for number in range(500, 1_500)]


async def test_a_task_that_fails_is_a_failure_of_the_worker() -> None:
    async def fail(_: Work) -> None:
        raise KeyError

    inflight = InFlight(Doing(fail), limit=1)
    inflight.add(run("1-0"))
    with pytest.raises(KeyError):
        await inflight.failure

    assert len(inflight) == 0


async def test_a_bug_in_letting_go_is_a_failure_of_the_worker_and_not_the_end_of_all_work() -> None:
    ran: list[str] = []

    async def process(work: Work) -> None:
        ran.append(work.entry_id)
        if work.entry_id == "1-0":
            del inflight._works["1-0"]

    inflight = InFlight(Doing(process), limit=2)
    inflight.take([run("1-0").delivery, run("2-0").delivery])
    with pytest.raises(KeyError):
        await inflight.failure
    await eventually(lambda: len(inflight) == 0, because="the other is worked on")

    assert ran == ["1-0", "2-0"]
