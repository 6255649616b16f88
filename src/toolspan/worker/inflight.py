"""What this worker holds, and how much more it may take."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from toolspan.model import SUSPECT_FROM, Run, id_order
from toolspan.worker.lanes import Lanes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from toolspan.model import DeadLetterReason, Delivery, Failed

    Story: TypeAlias = Callable[["Work"], Awaitable[None]]

_RELEASES_KEPT: Final = 1_000
_GATHER_SECONDS: Final = 0.002
_WORTHWHILE: Final = 0.25
"""The part of all room that is worth a read of its own."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a delivery will not be run but quarantined."""

    reason: DeadLetterReason
    failure: Failed


@dataclass(slots=True, eq=False)
class Work:
    """One delivery in flight, and how far it is."""

    run: Run
    verdict: Verdict | None = None
    task: asyncio.Task[None] | None = None
    """What works on it now; None before that is begun, and once it has ended."""
    token: str = ""
    """What marks an at-most-once start; empty before it."""
    recorded: bool = False
    """Whether anything may be on record under the attempts of this entry, which its end has to clear away."""
    noted: bool = False
    """Whether the attempt's start is on record, so that a heartbeat need not write it down."""
    slot: str = ""
    """The tool with a limit for the whole fleet of which this run holds a slot; empty while it holds none."""
    starting: bool = False
    """Whether a start is under way, so that nobody can say which attempt Redis holds."""
    settling: bool = False
    """Whether the completer has been handed its reply: its task may end, and the completer lets go of it."""
    decided: bool = False
    """Whether it is known how this ends, so that it is not cancelled any more."""
    parting: bool = False
    """Whether it is being parked or quarantined: what is delivered of its entry meanwhile is another run's."""
    ended: bool = False
    """Whether Redis has taken its end."""
    undelivered: bool = False
    """Whether its outcome only waits until a re-created group hands the entry out again: it takes up no room then."""
    lost: bool = False
    """Whether somebody else holds the entry now."""
    successor: Work | None = None
    """What has been delivered of this entry while it could not be taken over any more."""

    @property
    def entry_id(self) -> str:
        """The entry that is worked on."""
        return self.run.delivery.entry_id

    @property
    def suspect(self) -> bool:
        """Whether it is run now and has lost so many workers that it may be what kills them."""
        return self.verdict is None and self.run.delivery.losses >= SUSPECT_FROM

    def give_up(self) -> bool:
        """Cancel the run because nobody wants its outcome any more; False: that is known already, or not ours.

        A start that is under way is left to end: until then nobody can say what Redis holds.
        """
        if self.decided or self.lost or self.run.given_up:
            return False
        self.run.given_up = True
        if not self.starting:
            self.cancel()
        return True

    def cancel(self) -> None:
        """Cancel the run: whoever asks for it decides what becomes of the delivery."""
        self.run.cancelled = True
        if self.task is not None:
            self.task.cancel()


class Process(Protocol):
    """Works on deliveries until they are settled, parked or quarantined.

    Whatever goes wrong with one is that delivery's own trouble.
    """

    def begin(self, work: Work) -> Coroutine[None, None, None] | None:
        """Work on a delivery as far as that goes without waiting, and give what is left to be done.

        None, if it was handed to the completer: most calls end here.
        """

    def contained(self, work: Work, story: Awaitable[None]) -> Coroutine[None, None, None]:
        """Work on a delivery by another *story* than our own."""


class InFlight:
    """The deliveries of this worker, never more than *limit*; each is worked on until its outcome is known."""

    def __init__(self, process: Process, *, limit: int) -> None:
        self.limit = limit
        self._worthwhile = int(limit * _WORTHWHILE)
        self.closed = False
        self.reserved = False
        """Whether all the room is kept for one call that is to be alone."""
        self._loop = asyncio.get_running_loop()
        self.failure: asyncio.Future[None] = self._loop.create_future()
        """Fails when a story does, which no tool and no entry can bring about: a bug that shall stop the worker."""
        self.sweep_sooner = asyncio.Event()
        """Set where orphans should be looked for now: a suspect has ended, and others may have had to wait for that."""
        self._process = process
        self._lanes = Lanes(process.begin, self._ended)
        self._works: dict[str, Work] = {}
        self._ended_lately: list[Work] = []
        self._newest = (0, 0)
        """The highest id that was read so far: an older one that is read later comes from a group made anew."""
        self._undelivered = 0
        self._freed = asyncio.Event()
        self._adopted = asyncio.Event()
        self.adoptions = 0
        """How often a run has taken over a new delivery of its entry."""
        self._released: dict[str, tuple[str, int]] = {}

    def __len__(self) -> int:
        return len(self._works)

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._works

    def __iter__(self) -> Iterator[Work]:
        # A copy: the heartbeat's thread looks while the loop goes on.
        return iter(list(self._works.values()))

    @property
    def room(self) -> int:
        """How many more deliveries may be taken now."""
        return 0 if self.closed or self.reserved else max(0, self.limit - len(self._works) + self._undelivered)

    @property
    def suspects(self) -> int:
        """How many suspects may be taken now: one, unless there is one already."""
        return 0 if any(work.suspect for work in self._works.values()) else 1

    @property
    def busy(self) -> bool:
        """Whether works are still to be begun that need not wait for anything."""
        return self._lanes.busy

    def entry_ids(self) -> list[str]:
        """Name all entries that are held."""
        return list(self._works)

    def forget_ended(self) -> None:
        """Remember the ends from here on: what is read meanwhile may have been handed out before them."""
        self._ended_lately.clear()

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Start working on what was read as new: all at once, for what is done for each call is what calls cost."""
        newest = max(self._newest, id_order(deliveries[-1].entry_id))
        if id_order(deliveries[0].entry_id) <= self._newest:
            # A group made anew may hand out a call whose end Redis takes before we are told of that.
            ended = {work.entry_id for work in self._ended_lately if work.ended and not work.lost}
            deliveries = [delivery for delivery in deliveries if delivery.entry_id not in ended]
        self._newest = newest
        self._work_on(deliveries, claimed=False)

    def take_over(self, deliveries: Sequence[Delivery]) -> None:
        """Start working on what was claimed, and whose starts are on record."""
        self._work_on(deliveries, claimed=True)

    def add(self, run: Run, *, verdict: Verdict | None = None, recorded: bool = False, noted: bool = False) -> None:
        """Start working on a delivery, or end it by *verdict*; see `Work` for the rest.

        An entry that is in flight already was delivered anew by a re-created group: its run goes on and takes over
        the new delivery's attempt. Where it is about to part with the entry, that is run anew afterwards.
        """
        delivery = run.delivery
        known = self._works.get(delivery.entry_id)
        if known is None:
            self._begin(Work(run, verdict, recorded=recorded, noted=noted))
        elif known.run.cancelled or known.parting:
            known.successor = Work(run, verdict, recorded=recorded, noted=noted)
        else:
            known.run.delivery.attempt = delivery.attempt
            self.adoptions += 1
            known.noted = False
            known.recorded = known.recorded or recorded
            self._takes_room(known)
            self._adopted.set()

    def hold(self, run: Run) -> Work:
        """Keep a delivery that is to be worked on later: it is renewed like any other, and can be lost."""
        work = self._works[run.delivery.entry_id] = Work(run, recorded=True, noted=True)
        return work

    def drop(self, held: Work) -> None:
        """Hold a delivery no longer that nobody has worked on."""
        del self._works[held.entry_id]

    def lose(self, entry_id: str, attempt: int) -> None:
        """Believe that a delivery is no longer ours, and cancel its run, unless it has moved on since we asked."""
        work = self._works.get(entry_id)
        if work is None or work.starting or work.run.delivery.attempt != attempt:
            return
        work.lost = True
        self._freed.set()
        if not work.decided:
            work.cancel()

    def abandon(self) -> None:
        """Cancel whatever is left: it stays pending, and its lease runs out."""
        for work in self:
            work.cancel()

    def fail(self, error: BaseException) -> None:
        """Stop the worker because of a bug of ours."""
        if not self.failure.done():
            self.failure.set_exception(error)

    def close(self) -> None:
        """Take nothing more."""
        self.closed = True
        self._freed.set()

    async def wait_for_room(self) -> bool:
        """Wait until there is room, and a moment longer where it is scarce; False: we take nothing more."""
        await self._wait_for_room(1)
        if self.room < self._worthwhile:
            # More is about to end, more often than not; taken one by one, calls would cost several times as much.
            with suppress(TimeoutError):
                async with asyncio.timeout(_GATHER_SECONDS):
                    await self._wait_for_room(self._worthwhile)
        return not self.closed

    async def _wait_for_room(self, least: int) -> None:
        while self.room < least and not self.closed:
            self._freed.clear()
            await self._freed.wait()

    async def wait_until_gone(self, works: Iterable[Work]) -> None:
        """Wait until none of *works* is held any more."""
        left = list(works)
        while left := [work for work in left if self._works.get(work.entry_id) is work]:
            self._freed.clear()
            await self._freed.wait()

    async def wait_until(self, condition: Callable[[], bool], *, look_every: float) -> None:
        """Wait until *condition* holds; it is looked at whenever something changes here, and every so many seconds."""
        while not condition():
            self._freed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(look_every):
                    await self._freed.wait()

    def settled(self, *works: Work) -> None:
        """Let go of *works*, for Redis has taken their ends; a tool that goes on all the same keeps its place."""
        self._ended_lately.extend(works)
        for work in works:
            if work.task is None:
                self._let_go(work)
            else:
                work.settling = False
        self._freed.set()

    def go_on(self, work: Work, story: Story) -> None:
        """Give *work* a task again, for a *story* at whose end it is let go of."""
        work.settling = False
        before = work.task

        async def whole(work: Work) -> None:
            await story(work)
            if before is not None:
                # A tool that did not let itself be cancelled keeps its place.
                await asyncio.wait({before})

        self._lanes.run_apart(work, self._process.contained(work, whole(work)))

    async def wait_for_adoption(self, work: Work, seconds: float) -> None:
        """Wait until some run took over a new delivery of its entry, at most *seconds*.

        Until *work* does, it takes up no room: where there is none, nobody would read its entry.
        """
        self._undelivered += not work.undelivered
        work.undelivered = True
        self._freed.set()
        self._adopted.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._adopted.wait()

    def remember_release(self, work: Work) -> int:
        """Remember that we gave *work* back, and tell how often we did before."""
        tool, times = self._released.pop(work.entry_id, ("", 0))
        if work.run.call is not None:
            tool = work.run.call.tool
        self._released[work.entry_id] = (tool, times + 1)
        if len(self._released) > _RELEASES_KEPT:
            del self._released[next(iter(self._released))]
        return times

    def released(self) -> list[tuple[str, str]]:
        """List what we gave back lately: entry id and tool."""
        return [(entry_id, tool) for entry_id, (tool, _) in self._released.items()]

    def forget_release(self, entry_id: str) -> None:
        """Treat the entry like any other again."""
        self._released.pop(entry_id, None)

    def _work_on(self, deliveries: Sequence[Delivery], *, claimed: bool) -> None:
        works = self._works
        taken: list[Work] = []
        for delivery in deliveries:
            run = Run(delivery)
            if delivery.entry_id in works:
                self.add(run, recorded=claimed, noted=claimed)
            else:
                work = works[delivery.entry_id] = Work(run, recorded=claimed, noted=claimed)
                taken.append(work)
        self._lanes.add(*taken)

    def _begin(self, work: Work) -> None:
        self._works[work.run.delivery.entry_id] = work
        self._lanes.add(work)

    def _let_go(self, work: Work) -> None:
        """Hold *work* no longer; whoever waits for that is still to be told."""
        del self._works[work.run.delivery.entry_id]
        if work.undelivered:
            self._takes_room(work)
        if work.run.delivery.losses and work.suspect:
            self.sweep_sooner.set()
        if work.successor is not None:
            self._begin(work.successor)

    def _takes_room(self, work: Work) -> None:
        self._undelivered -= work.undelivered
        work.undelivered = False

    def _ended(self, work: Work, error: BaseException | None) -> None:
        try:
            if not work.settling:
                self._ended_lately.append(work)
                self._let_go(work)
                self._freed.set()
        except Exception as exc:  # noqa: BLE001
            # A lane must not break off in silence: nothing would be run any more.
            error = exc
        if isinstance(error, Exception):
            self.fail(error)
