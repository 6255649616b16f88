"""Tools with limits for the whole fleet: who waits, for how long, and who passes them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.conftest import settings_for
from tests.support.eventually import eventually
from toolspan import tool
from toolspan.testing import running_worker

if TYPE_CHECKING:
    from tests.support.plane import Plane
    from toolspan.settings import Settings
    from toolspan.testing import Recorder
    from toolspan.worker.worker import Worker


class Crew:
    """Counts how many runs of its tool there are at once."""

    def __init__(self) -> None:
        self.now = self.most = self.runs = 0
        self.release = asyncio.Event()

    async def run(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.runs += 1
        try:
            await self.release.wait()
        finally:
            self.now -= 1


async def test_as_many_run_at_once_as_the_limit_says_over_all_workers(plane: Plane, settings: Settings) -> None:
    crew = Crew()

    @tool(max_concurrency=3)
    async def scarce() -> None:
        await crew.run()

    async with running_worker(scarce, settings=settings), running_worker(scarce, settings=settings, name="other"):
        for number in range(12):
            await plane.append("scarce", f"c{number}")
        await eventually(lambda: crew.now == 3, because="the limit is used up")
        crew.release.set()
        await eventually(lambda: _answered(plane, 12), because="all of them run in the end", within=30)

    assert crew.most == 3
    assert crew.runs == 12
    assert {reply.status for reply in await plane.replies()} == {"ok"}


async def test_the_wait_is_told_as_admission(plane: Plane, settings: Settings, recorder: Recorder) -> None:
    crew = Crew()

    @tool(max_concurrency=1)
    async def scarce() -> None:
        await crew.run()

    async with running_worker(scarce, settings=settings, probe=recorder.probe):
        await plane.append("scarce", "first")
        await eventually(lambda: crew.now == 1, because="the first one runs")
        await plane.append("scarce", "second")
        await eventually(
            lambda: recorder.total("toolspan.waiting", gen_ai_tool_name="scarce") == 1, because="the second one waits"
        )
        crew.release.set()
        second = await eventually(lambda: plane.reply("second"), because="it has its turn")
        waiting = recorder.total("toolspan.waiting", gen_ai_tool_name="scarce")

    assert second.timings.admission > 1
    assert second.timings.admission > second.timings.execute
    assert waiting == 0


async def test_as_many_begin_in_a_second_as_the_rate_says(plane: Plane, settings: Settings) -> None:
    @tool(rate=10)
    async def measured() -> float:
        return asyncio.get_running_loop().time()

    async with running_worker(measured, settings=settings), running_worker(measured, settings=settings, name="other"):
        for number in range(25):
            await plane.append("measured", f"c{number}")
        await eventually(lambda: _answered(plane, 25), because="all of them run in the end", within=30)

    times = sorted(reply.result for reply in await plane.replies())
    # Ten at once, and then one each tenth of a second.
    assert times[-1] - times[0] >= 1.4
    for first, last in zip(times[:-12], times[12:], strict=True):
        assert last - first >= 0.15


async def test_what_is_refused_needs_no_slot(plane: Plane, settings: Settings) -> None:
    crew = Crew()

    @tool(max_concurrency=1, rate=0.001)
    async def scarce(number: int) -> int:
        await crew.run()
        return number

    async with running_worker(scarce, settings=settings):
        await plane.append("scarce", "runs", number=1)
        await eventually(lambda: crew.now == 1, because="the only slot is taken")
        await plane.append("scarce", "wrong", number="x")
        reply = await eventually(lambda: plane.reply("wrong"), because="it is answered beside it")
        crew.release.set()

    assert reply.failure.type == "invalid_arguments"


async def test_a_call_that_waits_is_answered_when_its_time_is_up(plane: Plane, settings: Settings) -> None:
    settings = settings.model_copy(update={"lease_ms": 20_000})
    crew = Crew()

    @tool(max_concurrency=1)
    async def scarce() -> None:
        await crew.run()

    async with running_worker(scarce, settings=settings):
        await plane.append("scarce", "runs")
        await eventually(lambda: crew.now == 1, because="the only slot is taken")
        fields = plane.codec.encode_call(plane.call("scarce", "late"))
        seconds, _ = await plane.redis.time()
        await plane.add(*fields, "deadline", str((seconds + 2) * 1000))
        reply = await eventually(lambda: plane.reply("late"), because="it is answered at its deadline", within=6)
        crew.release.set()

    assert reply.failure.type == "deadline_exceeded"
    assert crew.runs == 1


async def test_what_is_not_admitted_within_half_a_lease_is_given_back_and_runs_later(
    plane: Plane, settings: Settings, recorder: Recorder
) -> None:
    crew = Crew()

    @tool(max_concurrency=1)
    async def scarce() -> None:
        await crew.run()

    async with running_worker(scarce, settings=settings, probe=recorder.probe):
        await plane.append("scarce", "runs")
        await eventually(lambda: crew.now == 1, because="the only slot is taken")
        entry_id = await plane.append("scarce", "waits")
        await eventually(lambda: _is_parked(plane, entry_id), because="it is given back")
        parked = await plane.pending()
        on_record = await plane.redis.hexists(plane.keys.attempts, entry_id)
        crew.release.set()
        reply = await eventually(lambda: plane.reply("waits"), because="it has its turn")

    assert parked[entry_id] == ("~parked", 0)
    assert not on_record
    # To wait is no attempt.
    assert (reply.status, reply.attempt) == ("ok", 1)
    assert recorder.total("toolspan.attempts", gen_ai_tool_name="scarce", toolspan_outcome="released") >= 1


async def test_two_workers_do_not_leave_a_call_to_each_other_for_ever(plane: Plane, settings: Settings) -> None:
    crew = Crew()

    @tool(max_concurrency=1)
    async def scarce() -> None:
        await crew.run()

    async with (
        running_worker(scarce, settings=settings) as one,
        running_worker(scarce, settings=settings, name="other") as other,
    ):
        await plane.append("scarce", "runs")
        await eventually(lambda: crew.now == 1, because="the only slot is taken")
        entry_id = await plane.append("scarce", "waits")
        givers: set[str] = set()

        async def given_back_by(worker: Worker) -> bool:
            owner = (await plane.pending()).get(entry_id, ("", 0))[0]
            givers.add(owner)
            return owner == "~parked" and worker._engine.consumer in givers

        # Which of them takes it is by chance: each in turn takes nothing in, so that the other one does.
        for takes, waits in ((one, other), (other, one)):
            inflight = waits._engine._roles.inflight
            inflight.reserved = True
            await eventually(partial(given_back_by, takes), because="it held the call once", within=40)
            inflight.reserved = False
            inflight._freed.set()
        crew.release.set()
        await eventually(lambda: plane.reply("waits"), because="one of them runs it", within=30)


async def test_calls_of_other_tools_pass_a_long_line(plane: Plane, settings: Settings) -> None:
    settings = settings.model_copy(update={"concurrency": 20, "lease_ms": 20_000})
    crew = Crew()

    @tool(max_concurrency=2)
    async def scarce() -> None:
        await crew.run()

    @tool
    async def quick() -> str:
        return "done"

    async with running_worker(scarce, quick, settings=settings) as worker:
        for number in range(200):
            await plane.append("scarce", f"s{number}")
        for number in range(50):
            await plane.append("quick", f"q{number}")
        # All this takes place while not one of the others ends.
        await eventually(lambda: _answered(plane, 50), because="the quick ones find room", within=15)
        await eventually(lambda: crew.now == 2, because="both slots are taken")
        await eventually(lambda: worker._engine._roles.inflight.room >= 10, because="those in the line take no room")
        crew.release.set()
        await eventually(lambda: _answered(plane, 250), because="the line gets short by itself", within=60)

    assert crew.most == 2
    assert crew.runs == 200


async def test_a_worker_of_one_slot_does_not_stand_idle_for_one_that_waits(plane: Plane, settings: Settings) -> None:
    settings = settings.model_copy(update={"concurrency": 1, "lease_ms": 60_000, "reap_after_ms": 600_000})

    @tool(rate=0.01)
    async def rare() -> None: ...

    @tool
    async def quick() -> None: ...

    async with running_worker(rare, quick, settings=settings):
        await plane.append("rare", "now")
        await eventually(lambda: plane.reply("now"), because="the first one runs")
        await plane.append("rare", "later")
        await plane.append("quick")
        await eventually(lambda: plane.reply("quick"), because="the quick one finds room", within=10)
        assert await plane.reply("later") is None


async def test_a_draining_worker_gives_back_at_once_what_waits(plane: Plane, settings: Settings) -> None:
    settings = settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 600_000})
    crew = Crew()

    @tool(max_concurrency=1)
    async def scarce() -> None:
        await crew.run()

    async with running_worker(scarce, settings=settings) as worker:
        await plane.append("scarce", "runs")
        await eventually(lambda: crew.now == 1, because="the only slot is taken")
        entry_id = await plane.append("scarce", "waits")
        await eventually(lambda: _waits(worker, "scarce"), because="it waits")
        worker.stop()
        await eventually(lambda: _is_parked(plane, entry_id), because="another may take it", within=5)
        assert crew.now == 1
        crew.release.set()

    assert (await plane.pending())[entry_id] == ("~parked", 0)


async def test_a_thread_is_waited_for_with_the_slot_in_hand_and_given_back_with_it(
    plane: Plane, settings: Settings
) -> None:
    @tool(max_concurrency=1)
    def threaded() -> int:
        return 1

    async with running_worker(threaded, settings=settings):
        for number in range(5):
            await plane.append("threaded", f"c{number}")
        await eventually(lambda: _answered(plane, 5), because="each has its turn")
        await eventually(lambda: _no_slots(plane, "threaded"), because="all slots are given back")


async def test_a_slot_is_given_back_however_the_run_ends(plane: Plane, settings: Settings) -> None:
    # The end of a lease would give them back as well.
    settings = settings.model_copy(update={"lease_ms": 60_000, "reap_after_ms": 600_000})

    @tool(max_concurrency=1, timeout=0.1)
    async def ends(how: str) -> None:
        if how == "raises":
            raise RuntimeError
        if how == "hangs":
            await asyncio.Event().wait()

    async with running_worker(ends, settings=settings):
        for how in ("raises", "hangs", "returns"):
            await plane.append("ends", how, how=how)
        await eventually(lambda: _answered(plane, 3), because="each has its turn")
        await eventually(lambda: _no_slots(plane, "ends"), because="all slots are given back")


async def test_a_run_that_is_longer_than_a_lease_keeps_its_slot(plane: Plane, settings: Settings) -> None:
    settings = settings_for(settings.redis_url, prefix=settings.prefix, lease_ms=400)
    crew = Crew()

    @tool(max_concurrency=1)
    async def scarce() -> None:
        await crew.run()

    async with running_worker(scarce, settings=settings):
        await plane.append("scarce", "runs")
        await eventually(lambda: crew.now == 1, because="the only slot is taken")
        first = await _slot_ends(plane)
        await eventually(lambda: _later(plane, first + 1_000), because="heartbeats renew it")
        await plane.append("scarce", "waits")
        crew.release.set()
        await eventually(lambda: plane.reply("waits"), because="it has its turn")

    assert crew.most == 1


async def _answered(plane: Plane, count: int) -> bool:
    return len(await plane.replies()) == count


async def _is_parked(plane: Plane, entry_id: str) -> bool:
    return (await plane.pending()).get(entry_id, ("", 0))[0] == "~parked"


async def _no_slots(plane: Plane, name: str) -> bool:
    return not await plane.redis.exists(plane.keys.slots(name))


async def _slot_ends(plane: Plane) -> float:
    raw: Any = await plane.redis.zrange(plane.keys.slots("scarce"), 0, -1, withscores=True)
    return float(raw[0][1])


async def _later(plane: Plane, than: float) -> bool:
    return await _slot_ends(plane) > than


def _waits(worker: Worker, name: str) -> bool:
    return worker._engine._roles.admission.waiting().get(name) == 1
