"""Every step in any order, by several workers, on a real server: what lies in Redis is what was promised."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import settings_for
from tests.model.promises import PARKED, Call, Plane
from tests.redis.stage import filled
from toolspan.codec import Codec, Limits, dead_letter_fields
from toolspan.identity import new_call_id
from toolspan.model import NO_TRACE, Failed, ToolCall
from toolspan.store import CallerStore, Connection, ControlStore, DeadLetterStore, StreamStore
from toolspan.store.clock import RedisClock
from toolspan.store.keeper import Held, Keeper
from toolspan.store.steps import Burial, Settled, Settlement, Start

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer

WORKERS = ("ada", "bob")
MAX_ATTEMPTS = 4
LEASE_MS = 600_000
HOUR_MS = 3_600_000
EXAMPLES = 60
STEPS = 50


class Promises(RuleBasedStateMachine):
    """Drives the store's steps and the model side by side. A belief is what a worker holds, or thinks it does."""

    beliefs = Bundle("beliefs")
    letters = Bundle("letters")

    settings: Settings

    @initialize(target=beliefs)
    def begin(self) -> Any:
        """Some calls are held from the first step on: otherwise hardly any step would find one, and no claim."""
        self.runner = asyncio.Runner()
        self.keys = settings_for(self.settings.redis_url).keys
        self.codec = Codec(self.keys, Limits())
        self.reply_to = self.keys.replies("outside")
        self.plane = Plane()
        self.batches = dict.fromkeys(WORKERS, 0)
        self.run(self._connect())
        for _ in WORKERS:
            self.append(3)
        return multiple(*(belief for me in WORKERS for belief in self.handed_out(me, 2)))

    async def _connect(self) -> None:
        self.connection = Connection.to(self.settings.redis_url)
        self.redis = self.connection.commands
        self.stores = {
            me: StreamStore(
                self.connection,
                self.keys,
                me=me,
                block_ms=1,
                registration_ttl_ms=HOUR_MS,
                reply_ttl_seconds=3_600,
                reply_maxlen=100_000,
            )
            for me in WORKERS
        }
        self.keepers = {
            me: Keeper(self.connection, self.keys, me=me, clock=RedisClock(), ttl_ms=HOUR_MS, timeout=10)
            for me in WORKERS
        }
        self.dead_letters = DeadLetterStore(self.connection, self.keys)
        self.operators = ControlStore(self.connection, self.keys)
        self.callers = CallerStore(self.connection, self.keys, gateway_id="outside", block_ms=1)
        await self.stores["ada"].ensure_group()

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(step)

    def send(self, *command: Any) -> Any:
        async def sent() -> Any:
            return await self.redis.execute_command(*command)

        return self.run(sent())

    def teardown(self) -> None:
        for keeper in getattr(self, "keepers", {}).values():
            keeper.close()
        if hasattr(self, "connection"):
            self.run(self._clear())
            self.runner.close()

    async def _clear(self) -> None:
        keys = [key async for key in self.redis.scan_iter(f"{self.keys.prefix}:*")]
        if keys:
            await self.redis.delete(*keys)
        await self.connection.aclose()

    # ── the life of a call ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(count=st.integers(1, 3))
    def append(self, count: int) -> None:
        for _ in range(count):
            call_id = new_call_id()
            fields = self.codec.encode_call(ToolCall(call_id, "echo", {}, reply_to=self.reply_to))
            self.plane.append(self.send("XADD", self.keys.calls, "*", *fields).decode(), Call(call_id))

    @rule(target=beliefs, me=st.sampled_from(WORKERS), count=st.integers(1, 5))
    def read(self, me: str, count: int) -> Any:
        return multiple(*self.handed_out(me, count))

    def handed_out(self, me: str, count: int) -> list[tuple[str, str, int]]:
        given = self.run(self.stores[me].read_new(count))

        assert [delivery.entry_id for delivery in given] == self.plane.read(me, count)
        return [(me, delivery.entry_id, 1) for delivery in given]

    @rule(
        target=beliefs,
        me=st.sampled_from(WORKERS),
        owner=st.sampled_from(WORKERS),
        count=st.integers(1, 5),
        suspects=st.integers(0, 1),
        first=st.sampled_from(["time passes", ""]),
        then=st.sampled_from(["begin", ""]),
    )
    def claim(self, me: str, owner: str, *, count: int, suspects: int, first: str, then: str) -> Any:
        """Take over orphans, and *then* perhaps begin those that were not; without *first*, there may be none."""
        if first:
            self.time_passes(owner)
        claims = self.run(
            self.stores[me].claim(owner, lease_ms=LEASE_MS, count=count, suspects=suspects, max_attempts=MAX_ATTEMPTS)
        )
        given = [(one.delivery.entry_id, one.delivery.attempt, one.begun) for one in claims.claimed]
        promised = self.plane.claim(me, owner, count=count, suspects=suspects, max_attempts=MAX_ATTEMPTS)

        calls = {entry_id: self.plane.live[entry_id] for entry_id in promised}
        assert given == [(entry_id, call.attempt, call.begun) for entry_id, call in calls.items()]
        for entry_id, attempt, begun in given:
            if then and not begun:
                self.begin_attempt(me, entry_id, attempt, "")
        return multiple(*((me, entry_id, call.attempt) for entry_id, call in calls.items()))

    @rule(target=beliefs, me=st.sampled_from(WORKERS), count=st.integers(1, 5), suspects=st.integers(0, 1))
    def claim_due(self, me: str, count: int, suspects: int) -> Any:
        """All that is parked becomes due, oldest entry first."""
        parked = self.plane.held_by(PARKED)
        for due_ms, entry_id in enumerate(parked, start=1):
            self.send("ZADD", self.keys.parked, due_ms, entry_id)
        claims = self.run(self.stores[me].claim_due(count=count, suspects=suspects, max_attempts=MAX_ATTEMPTS))
        given = [claim.delivery.entry_id for claim in claims.claimed]
        promised = self._due(parked, me, count, suspects)

        assert given == promised
        return multiple(*((me, entry_id, self.plane.live[entry_id].attempt) for entry_id in given))

    def _due(self, parked: list[str], me: str, count: int, suspects: int) -> list[str]:
        taken: list[str] = []
        for entry_id in parked if self.plane.paused_by is None else ():
            if len(taken) < count:
                found = self.plane.claim_all(me, [entry_id], suspects=suspects, max_attempts=MAX_ATTEMPTS)
                suspects -= bool(found) and self.plane.live[entry_id].is_suspect(MAX_ATTEMPTS)
                taken += found
        return taken

    @rule(target=beliefs, belief=beliefs, token=st.sampled_from(["", "one", "two"]))
    def start(self, belief: tuple[str, str, int], token: str) -> Any:
        me, entry_id, held = belief
        begun = self.begin_attempt(me, entry_id, held, token)
        return multiple(*([(me, entry_id, held + 1)] if begun else []))

    def begin_attempt(self, me: str, entry_id: str, held: int, token: str) -> bool:
        [status] = self.run(self.stores[me].start([Start(entry_id, held, held + 1, token)]))

        assert status == self.plane.start(me, entry_id, held=held, attempt=held + 1, token=token)
        return bool(status == 1)

    @rule(held=st.lists(beliefs, max_size=4))
    def keep(self, held: list[tuple[str, str, int]]) -> None:
        """A heartbeat of the worker of the first belief: it hears what is lost, given up, and paused."""
        me = held[0][0] if held else "ada"
        mine = dict(sorted((entry_id, attempt) for who, entry_id, attempt in held if who == me))
        calls = [self.plane.live[entry_id].id for entry_id in mine if entry_id in self.plane.live]
        kept = self.keepers[me].keep([Held(*one, noted=False) for one in mine.items()], running={}, calls=calls)

        assert [lost for lost, _ in kept.lost] == self.plane.keep(me, list(mine.items()))
        assert kept.cancelled == self.plane.cancelled(calls)
        assert kept.control is not None
        paused = {} if self.plane.paused_by is None else {"echo": self.plane.paused_by}
        assert {tool: order.who for tool, order in kept.control.paused.items()} == paused

    @rule(batch=st.lists(beliefs, min_size=1, max_size=4), again=st.booleans())
    def settle(self, batch: list[tuple[str, str, int]], again: bool) -> None:
        """Settle many; asking *again*, as after a lost answer, changes nothing."""
        me = batch[0][0]
        mine = list({entry_id: (entry_id, attempt) for who, entry_id, attempt in batch if who == me}.values())
        self.batches[me] += 1
        settlements = [
            Settlement(entry_id, attempt, True, self.reply_to, *filled("id", self._call_id(entry_id)))
            for entry_id, attempt in mine
        ]
        promised = [Settled(self.plane.settle(me, *one)) for one in mine]
        for _ in range(1 + again):
            assert self.run(self.stores[me].settle(self.batches[me], settlements, held=10_000)) == promised

    def _call_id(self, entry_id: str) -> str:
        call = self.plane.live.get(entry_id)
        return call.id if call else "whose reply must never be written"

    @rule(belief=beliefs, gives_back=st.booleans())
    def park(self, belief: tuple[str, str, int], gives_back: bool) -> None:
        me, entry_id, attempt = belief
        call = self.plane.live.get(entry_id)
        count = attempt - 1 if gives_back and call is not None and call.begun else attempt
        reason = "released" if gives_back else "tool_error"
        parked = self.run(self.stores[me].park(entry_id, attempt, count=count, delay_ms=HOUR_MS, reason=reason))

        assert parked is self.plane.park(me, entry_id, attempt, count=count, released=gives_back)

    @rule(
        target=beliefs,
        belief=beliefs,
        first=st.sampled_from(["pause", ""]),
        then=st.sampled_from(["claim", ""]),
    )
    def hold_back(self, belief: tuple[str, str, int], first: str, then: str) -> Any:
        """Leave a call of a paused tool waiting; without *first*, its worker may be wrong about the pause."""
        if first:
            self.pause("eve")
        me, entry_id, attempt = belief
        call = self.plane.live.get(entry_id)
        count = attempt - 1 if call is not None and call.begun else attempt
        held = self.run(self.stores[me].hold_back(entry_id, attempt, count=count, tool="echo"))

        assert held == self.plane.hold_back(me, entry_id, attempt, count=count)
        return self.claim_due(me, 5, 1) if then else multiple()

    @rule(belief=beliefs, is_known=st.booleans())
    def cancel(self, belief: tuple[str, str, int], is_known: bool) -> None:
        """The caller gives a call up; where its entry *is known*, one that is parked is due at once."""
        _, entry_id, _ = belief
        call = self.plane.live.get(entry_id)
        if call is None:
            return
        self.run(self.callers.cancel(call.id, ttl_ms=HOUR_MS, entry_id=entry_id if is_known else ""))
        self.plane.given_up.add(call.id)

        if is_known and call.owner == PARKED:
            assert float(self.send("ZSCORE", self.keys.parked, entry_id)) <= self._now_ms()

    def _now_ms(self) -> int:
        seconds, micros = self.send("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    @rule(target=letters, belief=beliefs)
    def quarantine(self, belief: tuple[str, str, int]) -> Any:
        me, entry_id, attempt = belief
        call_id = self._call_id(entry_id)
        about = dead_letter_fields(
            entry_id=entry_id,
            reason="worker_lost",
            tool="echo",
            failure=Failed("quarantined", "it lost too many workers"),
            consumer=me,
            traceparent=None,
            reply=None,
        )
        burial = Burial(entry_id, attempt, "worker_lost", "quarantined", about, self.reply_to, ["id", call_id])
        buried = self.run(self.stores[me].quarantine(burial))

        assert buried.status == self.plane.quarantine(me, entry_id, attempt)
        if not buried.status:
            return multiple()
        self.plane.dead[buried.letter_id] = call_id
        return buried.letter_id

    @rule(letter_id=letters, discards=st.booleans())
    def replay_or_discard(self, letter_id: str, discards: bool) -> None:
        letter = self.run(self.dead_letters.one(letter_id))

        assert (letter is not None) is (letter_id in self.plane.dead)
        if letter is None:
            return
        if discards:
            assert self.run(self.dead_letters.discard(letter_id, who="us", why="it is a test"))
        else:
            call_id = new_call_id()
            fields = self.codec.encode_replay(letter.fields, call_id=call_id, replay_of=letter_id, trace=NO_TRACE)
            entry_id = self.run(self.dead_letters.replay(letter, call_id=call_id, fields=fields, who="us"))
            self.plane.append(entry_id, Call(call_id, replay_of=letter_id))
            # Whoever asks for the same a moment later gets nothing.
            assert self.run(self.dead_letters.replay(letter, call_id="x", fields=fields, who="us")) is None
        del self.plane.dead[letter_id]

    # ── what operators ask for ─────────────────────────────────────────────────────────────────────────────────────

    @rule(who=st.sampled_from(["eve", "sam"]))
    def pause(self, who: str) -> None:
        known = self.run(self.operators.pause("echo", who=who, why="it is a test"))

        assert (known.who if known else None) == self.plane.paused_by
        self.plane.paused_by = self.plane.paused_by or who

    @rule()
    def resume(self) -> None:
        """What waits is due then."""
        known = self.run(self.operators.resume("echo", who="sam", why="it is a test"))
        self.run(self.operators.hasten("echo"))

        assert (known.who if known else None) == self.plane.paused_by
        self.plane.paused_by = None
        late = self.send("ZRANGEBYSCORE", self.keys.parked, f"({self._now_ms()}", "+inf")
        assert not {entry_id.decode() for entry_id in late} & set(self.plane.live)

    # ── the world around it ────────────────────────────────────────────────────────────────────────────────────────

    @rule(owner=st.sampled_from(WORKERS))
    def time_passes(self, owner: str) -> None:
        """*owner* renews nothing for a lease."""
        held = self.plane.held_by(owner)
        if held:
            self.run(self._make_idle(owner, held))
            for entry_id in held:
                self.plane.live[entry_id].expired = True

    async def _make_idle(self, owner: str, held: list[Any]) -> None:
        idle = LEASE_MS + 1_000
        await self.redis.xclaim(self.keys.calls, self.keys.group, owner, 0, held, idle=idle, justid=True)

    @rule(me=st.sampled_from(WORKERS), consumer=st.sampled_from([*WORKERS, PARKED]), silent=st.booleans())
    def reap(self, me: str, consumer: str, silent: bool) -> None:
        """A consumer goes only if it holds nothing; without it, nothing is lost."""
        now_ms = time.time_ns() // 1_000_000
        if consumer != PARKED:
            self.send("ZADD", self.keys.workers, now_ms - (2 * HOUR_MS if silent else 0), consumer)
        gone = self.run(self.stores[me].reap(consumer, silent_ms=HOUR_MS))

        assert gone is (not self.plane.held_by(consumer) and (silent or consumer == PARKED))

    @precondition(lambda self: self.plane.live)
    @rule()
    def the_group_is_lost(self) -> None:
        """What was parked is forgotten too; its due times are not."""
        self.send("XGROUP", "DESTROY", self.keys.calls, self.keys.group)
        self.run(self.stores["bob"].ensure_group())
        self.plane.lose_group()

    # ── what has to be true at any time ────────────────────────────────────────────────────────────────────────────

    @invariant()
    def redis_has_what_was_promised_and_nothing_else(self) -> None:
        if not hasattr(self, "connection"):
            return
        entries, pending, replies, letters, recorded, parked = self.run(self._look())

        assert entries == list(self.plane.live)
        assert pending == {
            entry_id: (call.owner, call.attempt) for entry_id, call in self.plane.live.items() if call.owner is not None
        }
        assert replies == self.plane.replies
        assert len(set(replies)) == len(replies)
        assert letters == list(self.plane.dead)
        assert recorded <= set(entries)
        assert set(self.plane.held_by(PARKED)) <= parked

    async def _look(self) -> Any:
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.execute_command("XRANGE", self.keys.calls, "-", "+")
        pipeline.execute_command("XPENDING", self.keys.calls, self.keys.group, "-", "+", 10_000)
        pipeline.execute_command("XRANGE", self.reply_to, "-", "+")
        pipeline.execute_command("XRANGE", self.keys.dead_letters, "-", "+")
        pipeline.execute_command("HKEYS", self.keys.attempts)
        pipeline.execute_command("ZRANGE", self.keys.parked, 0, -1)
        entries, pending, replies, letters, recorded, parked = await pipeline.execute()
        return (
            [entry_id.decode() for entry_id, _ in entries],
            {entry_id.decode(): (owner.decode(), attempt) for entry_id, owner, _, attempt in pending},
            [fields[1].decode() for _, fields in replies],
            [letter_id.decode() for letter_id, _ in letters],
            {name.decode().removesuffix(":mark") for name in recorded},
            {entry_id.decode() for entry_id in parked},
        )


def test_every_step_in_any_order_does_what_was_promised(server: EmbeddedServer) -> None:
    class Here(Promises):
        settings = settings_for(server.url)

    often = hypothesis.settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        # The same steps each time: a change is judged by them, and not by luck.
        derandomize=True,
        report_multiple_bugs=False,
        # Most steps need something that an earlier one gave, and a busy machine is slow.
        suppress_health_check=[hypothesis.HealthCheck.filter_too_much, hypothesis.HealthCheck.too_slow],
    )
    run_state_machine_as_test(Here, settings=often)
