"""What goes on while a worker dies: each scenario takes it to points of its own."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any, ClassVar

from tests.points.nest import WORKER
from tests.points.stage import GONE, OK
from toolspan.codec import encode_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.points.stage import Stage
    from tests.support.proxy import Proxy

_UNKNOWN = (OK, "outcome_unknown")
_GIVEN_UP = (OK, "cancelled")


class Scenario:
    """Calls of one kind or another; what is done while the worker has them; and what lets those after it end them."""

    program: ClassVar[str] = WORKER
    concurrency: ClassVar[int] = 10
    tools: ClassVar[tuple[str, ...]] = ()
    """What the worker that dies loads besides."""
    settings: ClassVar[Mapping[str, Any]] = {}
    """Of the worker that dies; its rescuers have the usual ones."""
    shared: ClassVar[Mapping[str, Any]] = {}
    """Of both."""
    proxy: Proxy | None = None
    """Through which the worker that dies comes to Redis, where the scenario says `proxied`."""
    proxied: ClassVar[bool] = False

    async def prepare(self, stage: Stage) -> None:
        """Append what the worker finds at its start."""
        raise NotImplementedError

    async def act(self, stage: Stage) -> None:
        """Do the rest, until the worker was where it should be; it may die at any time meanwhile."""
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        """Take away what is in the way of the end."""


class Ordinary(Scenario):
    """Each kind of tool, and each kind of end."""

    tools = ("tests.points.traced",)

    async def prepare(self, stage: Stage) -> None:
        await stage.call("echo", "echo")
        await stage.call("marked", "loop", path="loop", seconds=0.05)
        await stage.call("marked.sync", "thread", path="thread", seconds=0.05)
        await stage.call("once", "once", path="once", seconds=0.05, ends=_UNKNOWN)
        await stage.call("tells", "tells", path="tells", steps=2)
        await stage.call("tells.sync", "tells.sync", path="tells.sync", steps=2)
        await stage.call("fails", "fails", ends=("tool_error",))
        await stage.call("hangs", "hangs", ends=("timeout",))
        await stage.call("ends_itself", "ends_itself", ends=("tool_error",))
        await stage.call("echo", "wrong", nothing=1, ends=("invalid_arguments",))
        await stage.call("nowhere", "nowhere", ends=("unknown_tool",))
        await stage.call("echo", "silent", reply=False)
        await stage.call("fails", "silent failure", reply=False, ends=("tool_failed",))
        await stage.call("marked", "late", deadline_ms=1, path="late", ends=(OK, "deadline_exceeded"))
        fields = ("v", "1", "id", "malformed", "tool", "echo", "args", "[]", "reply_to", stage.plane.reply_to)
        await stage.entry(*fields, call_id="malformed", ends=("malformed",))


class Many(Scenario):
    """More quick calls than are run in a row."""

    concurrency = 40

    async def prepare(self, stage: Stage) -> None:
        for number in range(40):
            await stage.call("echo", f"echo-{number}")


class TriedAgain(Scenario):
    """Calls that fail at first, and ask for more."""

    async def prepare(self, stage: Stage) -> None:
        for number in range(2):
            await stage.call("flaky", f"flaky-{number}", path=f"flaky-{number}", good_from=3, ends=(OK, "tool_error"))
            await stage.call("again", f"again-{number}", path=f"again-{number}", good_from=2)
        await stage.call(
            "later", "late", path="late", good_from=2, deadline_ms=500, ends=(OK, "tool_error", "deadline_exceeded")
        )


class Deserted(Scenario):
    """Calls of a worker that died before: orphans, poison, marked ones, some without a body."""

    concurrency = 4
    shared: ClassVar[Mapping[str, Any]] = {"reap_after_ms": 1_200}

    async def prepare(self, stage: Stage) -> None:
        plane, keys = stage.plane, stage.plane.keys
        poison = [
            await stage.call("marked", "poison", path="poison", ends=("quarantined",)),
            await stage.call("marked", "new poison", path="new poison", version=9, ends=("quarantined",)),
            await stage.entry("v", "1", "reply_to", plane.reply_to, call_id="", ends=("quarantined", "malformed")),
        ]
        begun = await stage.call("once", "begun.once", path="begun.once", ends=("outcome_unknown",))
        for number in range(5):
            await stage.call("marked", f"m{number}", path=f"m{number}", seconds=0.02)
        await stage.call("once", "once", path="once", ends=_UNKNOWN)
        deleted = await plane.append("echo", "deleted")
        await plane.orphan(GONE)
        # It would be read as new once more, and is not promised anything.
        await stage.redis.xdel(keys.calls, deleted)
        await stage.redis.hset(keys.attempts, f"{begun}:mark", "a token")
        await stage.tried(4, *poison)
        await stage.redis.zadd(keys.workers, {"empty-1-0000": 1})
        await stage.call("echo", "fresh")
        # As of a group that is lost: its mark outlives it.
        lost = await stage.call("once", "lost.once", path="lost.once", ends=("outcome_unknown",))
        await stage.redis.hset(keys.attempts, f"{lost}:mark", "another token")

    async def act(self, stage: Stage) -> None:
        await stage.sees(stage.over)
        await stage.sees(lambda: _has_no(stage, "empty-1-0000"))


class LastChance(Scenario):
    """A call that was lost with its workers, and may be once more: it runs alone."""

    async def prepare(self, stage: Stage) -> None:
        suspect = await stage.call("until", "suspect", path="suspect", release="go", ends=(OK, "quarantined"))
        await stage.plane.orphan(GONE)
        await stage.tried(3, suspect)
        lost = [{"consumer": GONE, "attempt": n, "start": n, "end": n, "error": "worker_lost"} for n in (1, 2)]
        await stage.redis.hset(stage.plane.keys.attempts, suspect, json.dumps(lost))
        await stage.call("until", "neighbour", path="neighbour", release="neighbour ends")

    async def act(self, stage: Stage) -> None:
        await stage.began("neighbour")
        await stage.sees(lambda: stage.was_at("Isolation.of"))
        stage.release("neighbour ends")
        await stage.began("suspect")
        await stage.call("echo", "later")
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("neighbour ends", "go")


async def _has_no(stage: Stage, consumer: str) -> bool:
    return consumer not in await stage.plane.beating()


class Paused(Scenario):
    """Calls of tools that are paused, or get to be while they wait for their turn."""

    # Half as long, one waits for its turn: long enough to be paused meanwhile.
    shared: ClassVar[Mapping[str, Any]] = {"lease_ms": 1_600}

    async def prepare(self, stage: Stage) -> None:
        await stage.pause("marked")
        await stage.call("marked", "held", path="held")
        await stage.call("marked", "held, newer", path="newer", version=9, ends=("unknown_tool",))
        await stage.call("marked", "too late", deadline_ms=1, path="too late", ends=("deadline_exceeded", OK))
        await stage.call("scarce.until", "first", path="slot", release="go")
        await stage.call("scarce.until", "second", path="slot", release="go")
        await stage.call("echo", "other")

    async def act(self, stage: Stage) -> None:
        await stage.began("slot")
        await stage.pause("scarce.until")
        await stage.says("pause.heard", times=2)
        stage.release("go")
        await stage.sees(lambda: _parked(stage, 3))

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")
        for tool in ("marked", "scarce.until"):
            await stage.resume(tool)


async def _parked(stage: Stage, count: int) -> bool:
    return int(await stage.redis.zcard(stage.plane.keys.parked)) >= count


class Limited(Scenario):
    """More calls than the limits of their tools let begin, and than there is room for."""

    concurrency = 4

    async def prepare(self, stage: Stage) -> None:
        for number in range(6):
            await stage.call("scarce", f"s{number}", path=f"s{number}", seconds=0.05)
        await stage.call("scarce.until", "holds", path="slot", release="go")
        ends = (OK, "deadline_exceeded")
        await stage.call("scarce.until", "waits", path="slot", release="go", deadline_ms=100, ends=ends)
        await stage.call("scarce.until", "is turned away", path="slot", release="go")
        for number in range(3):
            await stage.call("measured", f"r{number}", path=f"r{number}")

    async def act(self, stage: Stage) -> None:
        await stage.began("slot")
        await stage.sees(lambda: stage.was_at("Admission._idle"))
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class Full(Scenario):
    """There is room for a few calls at a time, and many wait for it."""

    concurrency = 8

    async def prepare(self, stage: Stage) -> None:
        for number in range(6):
            await stage.call("until", f"stays-{number}", path=f"stays-{number}", release="go")
        for number in range(30):
            await stage.call("marked", f"m{number}", path=f"m{number}", seconds=number % 4 / 1_000)

    async def act(self, stage: Stage) -> None:
        await stage.sees(lambda: all(map(stage.starts, (f"m{number}" for number in range(30)))))
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class OutOfThreads(Scenario):
    """Tools that do not end when their time is over, and have all threads."""

    concurrency = 2

    async def prepare(self, stage: Stage) -> None:
        for number in range(2):
            await stage.call("until.late", f"late-{number}", path=f"late-{number}", release="go", ends=(OK, "timeout"))
        await stage.call("marked.sync", "waits", path="waits")

    async def act(self, stage: Stage) -> None:
        await stage.sees(lambda: _parked(stage, 1))
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class Elsewhere(Scenario):
    """Calls that this worker cannot serve, but another one that is alive can."""

    async def prepare(self, stage: Stage) -> None:
        keys = stage.plane.keys
        other: dict[Any, Any] = {"host": "other", "pid": 1, "version": "9", "start": 1, "concurrency": 1}
        other |= {"lease": stage.settings.lease_ms, "protocol": 9, "tools": '{"there": "digest"}'}
        await stage.redis.hset(keys.worker("other-1-0000"), mapping=other)
        await stage.redis.pexpire(keys.worker("other-1-0000"), 60_000)
        await stage.redis.zadd(keys.workers, {"other-1-0000": await stage.plane.now_ms() + 60_000})
        await stage.call("there", "there", ends=("unknown_tool",))
        await stage.call("there", "newer", version=9, ends=("unknown_tool",))
        await stage.call("nowhere", "newer, nowhere", version=9, ends=("unknown_tool",))
        await stage.call("echo", "here")

    async def act(self, stage: Stage) -> None:
        await stage.sees(lambda: _parked(stage, 2))
        # It comes back to them, and leaves them to the other.
        asked = sum(times for _, times in stage.worker.visited())
        await stage.sees(lambda: sum(times for _, times in stage.worker.visited()) > asked + 100)
        await self.afterwards(stage)
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        await stage.redis.zrem(stage.plane.keys.workers, "other-1-0000")
        await stage.redis.delete(stage.plane.keys.worker("other-1-0000"))


class GivenUp(Scenario):
    """Calls that their callers give up, at every stage."""

    async def prepare(self, stage: Stage) -> None:
        await stage.call("echo", "before", ends=_GIVEN_UP)
        await stage.gives_up("before")
        await stage.call("until", "runs", path="runs", release="go", ends=_GIVEN_UP)
        await stage.call("until.sync", "thread", path="thread", release="go", ends=_GIVEN_UP)
        await stage.call("until.once", "once", path="once", release="go", ends=(*_UNKNOWN, "cancelled"))
        await stage.call("stubborn.until", "stubborn", path="stubborn", release="go", ends=_GIVEN_UP)
        await stage.call("scarce.until", "has the slot", path="slot", release="go")
        await stage.call("scarce.until", "waits", path="slot", release="go", ends=_GIVEN_UP)
        await stage.call("later", "parked", path="parked", good_from=2, ends=_GIVEN_UP)

    async def act(self, stage: Stage) -> None:
        await stage.began("runs", "thread", "once", "stubborn", "slot", "parked")
        await stage.gives_up("runs", "thread", "once", "stubborn", "waits", "parked")
        await stage.sees(lambda: stage.plane.reply("stubborn"))
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class Unwritable(Scenario):
    """A reply stream that is none, and dead letters that cannot be written for a while."""

    async def prepare(self, stage: Stage) -> None:
        keys = stage.plane.keys
        await stage.redis.set(keys.replies("on-purpose"), "no stream")
        await stage.redis.set(keys.dead_letters, "no stream")
        stage.plane.reply_to = keys.replies("on-purpose")
        await stage.call("echo", "no reply", replied=False, ends=("reply_failed",))
        ends = ("reply_failed", "outcome_unknown")
        await stage.call("once", "no reply.once", replied=False, path="no reply.once", ends=ends)
        ends = ("reply_failed", OK)
        await stage.call("stubborn.until", "stubborn", replied=False, path="stubborn", release="go", ends=ends)
        stage.plane.reply_to = keys.replies("outside")
        await stage.call("echo", "reply")

    async def act(self, stage: Stage) -> None:
        await stage.began("stubborn")
        await stage.gives_up("stubborn")
        await stage.says("dead letters cannot be written")
        await self._let_write(stage)
        await stage.sees(lambda: stage.was_at("InFlight.go_on.whole", "before"))
        await self.afterwards(stage)
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        await self._let_write(stage)
        stage.release("go")

    async def _let_write(self, stage: Stage) -> None:
        if await stage.redis.type(stage.plane.keys.dead_letters) == b"string":
            await stage.redis.delete(stage.plane.keys.dead_letters)


class GroupLost(Scenario):
    """The group is destroyed while a worker waits for more."""

    async def prepare(self, stage: Stage) -> None:
        await stage.call("until", "runs", path="runs", release="go")
        # It has used up its attempts in the end, and the last may lose its worker.
        await stage.call("asks_again", "again", path="again", release="go", ends=("tool_error", "quarantined"))

    async def act(self, stage: Stage) -> None:
        await stage.began("runs", "again")
        await stage.redis.xgroup_destroy(stage.plane.keys.calls, stage.plane.keys.group)
        await stage.sees(lambda: stage.redis.xinfo_groups(stage.plane.keys.calls))
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class GroupLostAtWork(GroupLost):
    """It is destroyed while the worker has no room: an outcome has to wait for the new one to hand its entry out."""

    concurrency = 4

    async def prepare(self, stage: Stage) -> None:
        await super().prepare(stage)
        await stage.call("until.once", "once", path="once", release="go", ends=_UNKNOWN)
        await stage.call("until", "first", path="first", release="first one")

    async def act(self, stage: Stage) -> None:
        await stage.began("runs", "again", "once", "first")
        await stage.call("echo", "more")
        await stage.redis.xgroup_destroy(stage.plane.keys.calls, stage.plane.keys.group)
        # The others still take up all the room, so that nothing is read before its outcome is known.
        stage.release("first one")
        await stage.sees(lambda: stage.was_at("Completer._adopted"))
        stage.release("go")
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("first one", "go")


class Disconnected(Scenario):
    """Answers of Redis are lost, and then all connections for a while."""

    proxied = True

    async def prepare(self, stage: Stage) -> None:
        await stage.call("echo", "read")
        await stage.call("until", "runs", path="runs", release="go")
        await stage.call("until.once", "once", path="once", release="go", ends=_UNKNOWN)
        await stage.call("again", "again", path="again", good_from=2)
        assert self.proxy
        # The one read that waits: it hands over what nobody hears of.
        self.proxy.cut_after(b"BLOCK")

    async def act(self, stage: Stage) -> None:
        assert self.proxy
        await stage.began("runs", "once")
        self.proxy.cut_before(b"ZRANGE")
        await stage.call("nowhere", "nowhere", ends=("unknown_tool",))
        await stage.says('"neighbours"')
        self.proxy.refusing = True
        self.proxy.cut_all()
        stage.release("go")
        await stage.says('"settle"')
        self.proxy.refusing = False
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class Unconfirmed(Scenario):
    """A start waits for a replica that there is not, and the server does not know the scripts."""

    tools = ("tests.points.own_scripts",)
    settings: ClassVar[Mapping[str, Any]] = {"wait_replicas": 1, "drain_seconds": 0.2}

    async def prepare(self, stage: Stage) -> None:
        await stage.call("marked", "orphan", path="orphan")
        await stage.plane.orphan(GONE)
        await stage.call("once", "once", path="once", ends=_UNKNOWN)
        await stage.call("echo", "echo")

    async def act(self, stage: Stage) -> None:
        await stage.says("not confirmed")


class Draining(Scenario):
    """The worker is told to go, and has calls that do not end by the deadline."""

    settings: ClassVar[Mapping[str, Any]] = {"drain_seconds": 0.2}

    async def prepare(self, stage: Stage) -> None:
        for tool, name in (("until", "loop"), ("until.sync", "thread"), ("stubborn.until", "stubborn")):
            await stage.call(tool, name, path=name, release="go")
        await stage.call("until.once", "once", path="once", release="go", ends=_UNKNOWN)
        await stage.call("scarce.until", "has the slot", path="slot", release="go")
        await stage.call("scarce.until", "waits", path="slot", release="go")
        await stage.call("later", "parked", path="parked", good_from=2)

    async def act(self, stage: Stage) -> None:
        await stage.began("loop", "thread", "stubborn", "once", "slot")
        stage.worker.signal(signal.SIGTERM)
        await asyncio.shield(stage.worker.ended)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class Leaving(Scenario):
    """The worker is told to go, and what it holds ends in time."""

    async def prepare(self, stage: Stage) -> None:
        await stage.call("until", "loop", path="loop", release="go")
        await stage.call("until.sync", "thread", path="thread", release="go")
        await stage.call("until.once", "once", path="once", release="go", ends=_UNKNOWN)

    async def act(self, stage: Stage) -> None:
        await stage.began("loop", "thread", "once")
        stage.worker.signal(signal.SIGTERM)
        await stage.sees(lambda: stage.was_at("InFlight.wait_until_gone"))
        stage.release("go")
        await asyncio.shield(stage.worker.ended)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")


class StoppedAtOnce(Scenario):
    """The worker is told to go while it joins, and its first heartbeat is on the way."""

    proxied = True
    # For a quarter of it a heartbeat waits for its answer.
    shared: ClassVar[Mapping[str, Any]] = {"lease_ms": 8_000}

    async def prepare(self, stage: Stage) -> None:
        await stage.call("echo", "echo")
        self._hold()

    async def act(self, stage: Stage) -> None:
        assert self.proxy
        proxy = self.proxy
        await stage.sees(lambda: proxy.holds)
        stage.worker.signal(signal.SIGTERM)
        await stage.sees(lambda: stage.was_at("Engine._take_back_registration"))
        proxy.let_go()
        await asyncio.shield(stage.worker.ended)

    def _hold(self) -> None:
        assert self.proxy
        # Nothing else has been sent to a script before.
        self.proxy.hold(b"EVALSHA")


class WithBugs(Scenario):
    """Bugs of ours, met while working on one entry."""

    async def prepare(self, stage: Stage) -> None:
        last = await stage.call("bug", "last", on=4, ends=("worker_error", "quarantined"))
        await stage.plane.orphan(GONE)
        await stage.tried(3, last)
        await stage.call("bug", "first", on=1)
        await stage.call("bug.once", "once", on=1, ends=_UNKNOWN)
        await stage.call("echo", "beside")

    async def act(self, stage: Stage) -> None:
        await stage.sees(lambda: stage.plane.reply("beside"))
        for number in range(4):
            ends = (OK, "worker_error", "deadline_exceeded")
            await stage.call("bug", f"late-{number}", on=1, deadline_ms=150, ends=ends)
        await stage.sees(stage.over)


class OwnProgram(Scenario):
    """A program that brings its own `process_fn`."""

    program = "tests.points.program:main"
    shared: ClassVar[Mapping[str, Any]] = {"max_attempts": 2}

    async def prepare(self, stage: Stage) -> None:
        # For its own callers it replies itself: none of these has to get one from us.
        poison = await stage.call("any", "poison", path="poison", release="go", reply=False, ends=("worker_lost",))
        await stage.plane.orphan(GONE)
        await stage.tried(2, poison)
        await stage.pause("paused")
        await stage.call("any", "runs", path="runs", release="go", reply=False)
        await stage.call("any", "given up", path="given up", release="go", reply=False)
        await stage.gives_up("given up")
        await stage.call("paused", "paused", path="paused", release="go", reply=False)
        await stage.call("fails", "fails", reply=False, ends=("max_attempts", "worker_lost"))
        await stage.entry("payload", "{", call_id="malformed", replied=False, ends=("malformed",))

    async def act(self, stage: Stage) -> None:
        await stage.began("runs")
        stage.release("go")
        await stage.sees(lambda: _parked(stage, 1))
        await self.afterwards(stage)
        await stage.sees(stage.over)

    async def afterwards(self, stage: Stage) -> None:
        stage.release("go")
        await stage.resume("paused")


class OwnProgramStoppedAtOnce(StoppedAtOnce):
    """The same for a program that is told to go while it joins."""

    program = OwnProgram.program

    async def prepare(self, stage: Stage) -> None:
        stage.release("go")
        await stage.call("any", "runs", path="runs", release="go", reply=False)
        self._hold()


class Crowded(Scenario):
    """A caller that does not keep pace with what its calls tell."""

    shared: ClassVar[Mapping[str, Any]] = {"reply_maxlen": 100}

    async def prepare(self, stage: Stage) -> None:
        unread = encode_progress(
            call_id="earlier", entry_id="1-1", value=b"1", seq=1, attempt=1, consumer=GONE, traceparent=None
        )
        for _ in range(200):
            await stage.redis.execute_command("XADD", stage.plane.reply_to, "*", *unread)
        await stage.redis.expire(stage.plane.reply_to, 60)
        await stage.call("tells", "tells", path="tells", steps=1)


SCENARIOS = (
    *(
        Ordinary,
        Many,
        TriedAgain,
        Deserted,
        LastChance,
        Paused,
        Limited,
        Full,
        OutOfThreads,
        Elsewhere,
        GivenUp,
        Crowded,
        Unwritable,
    ),
    *(GroupLost, GroupLostAtWork, Disconnected, Unconfirmed, Draining, Leaving, StoppedAtOnce, WithBugs),
    *(OwnProgram, OwnProgramStoppedAtOnce),
)
