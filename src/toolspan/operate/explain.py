"""The life of one call as Redis tells it, without a trace backend."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from toolspan.errors import MalformedEntryError
from toolspan.operate.calls import About, about, codec_of, trace_id_in
from toolspan.operate.consumers import consumers
from toolspan.store import ControlStore, DeadLetterStore, EntryReader
from toolspan.store.steps import PARKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.model import Attempt, DeadLetter
    from toolspan.settings import Settings
    from toolspan.store import Connection, Glance

Place: TypeAlias = Literal["waiting", "in_flight", "parked", "passed_by", "deleted", "dead_letter", "gone"]
"""Where a call is. `passed_by`: it lies there, and nobody will be given it; `deleted`: its body is, and somebody holds
it; `gone`: only what is on record tells of it."""

ENTRY_ID: Final = re.compile(r"[0-9]{1,19}-[0-9]{1,19}", re.ASCII)

_MOST: Final = 10
"""Lives that one id is told with: more have a common cause, which the first ones show."""

_REPLAY: Final = {"outcome_unknown": " --did-not-run", "reply_failed": " --run-again"}


@dataclass(frozen=True, slots=True)
class AttemptTold:
    """One attempt; how long ago in seconds it began and ended. *ended* None: it runs, or nobody told its end."""

    attempt: int
    consumer: str
    began: float
    ended: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Step:
    """One exceptional step, *ago* in seconds."""

    event: str
    ago: float | None
    consumer: str
    attempt: str
    reason: str


@dataclass(slots=True)
class Life:
    """One call. *entry_id* is that of the stream, *dead_letter* that of the dead letters; times are seconds from now.

    *due* is negative for a call that could have been taken already, *deadline_left* once nobody waits.
    """

    place: Place
    entry_id: str
    note: str
    call_id: str | None = None
    tool: str | None = None
    principal: str | None = None
    trace_id: str | None = None
    replay_of: str | None = None
    attempt_of: str | None = None
    deadline_left: float | None = None
    age: float | None = None
    held_by: str | None = None
    attempt: int | None = None
    idle: float | None = None
    due: float | None = None
    dead_letter: str | None = None
    reason: str | None = None
    attempts: list[AttemptTold] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    next: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The lives that bear an id. *bounded* says that the search ended at its bound, after *looked_at* entries."""

    lives: list[Life]
    looked_at: int = 0
    bounded: bool = False


async def explain(connection: Connection, settings: Settings, asked: str, *, scan: int) -> Explanation:
    """Tell of the calls that *asked* means: an entry id, a dead letter's id, or a call id.

    What is not found directly is searched for among the *scan* newest entries, and as many dead letters: by its call
    id, or as what a call repeats.

    Raises:
        StoreError: if Redis cannot be asked.
    """
    return await _Explainer(connection, settings).explain(asked, scan)


class _Explainer:
    def __init__(self, connection: Connection, settings: Settings) -> None:
        self._connection = connection
        self._settings = settings
        self._entries = EntryReader(connection, settings.keys)
        self._control = ControlStore(connection, settings.keys)
        self._letters = DeadLetterStore(connection, settings.keys)
        self._codec = codec_of(settings)

    async def explain(self, asked: str, scan: int) -> Explanation:
        if ENTRY_ID.fullmatch(asked):
            direct = [await self._entry(asked), await self._letter(asked)]
            lives = [life for life in direct if life]
            if lives:
                return Explanation(lives)
        explanation = await self._searched(asked, scan)
        if explanation.lives:
            return explanation
        lives = await self._recorded(asked)
        return Explanation(lives, explanation.looked_at, explanation.bounded)

    async def _searched(self, asked: str, scan: int) -> Explanation:
        calls = await self._entries.calls_with(asked, scan=scan)
        letters = await self._entries.dead_letters_with(asked, scan=scan)
        found = [await self._entry(one) for one in calls.ids[:_MOST]]
        found += [await self._letter(one) for one in letters.ids[:_MOST]]
        # A search may find more than was meant: the id in the arguments of a payload.
        lives = [life for life in found if life and asked in _ids(life)]
        return Explanation(lives[:_MOST], calls.looked_at + letters.looked_at, calls.more or letters.more)

    async def _entry(self, entry_id: str) -> Life | None:
        """Tell of an entry that lies in the stream, or that somebody holds."""
        glance = await self._entries.glance(entry_id)
        if glance.body.fields is None and glance.held is None:
            return None
        call = None if glance.body.fields is None else about(self._codec, entry_id, glance.body.fields)
        life = _life(entry_id, call, glance.now_ms)
        life.attempts = _attempts(glance.body.attempts, glance.now_ms)
        life.steps = await self._steps(entry_id, glance.now_ms)
        await self._place(life, glance)
        if call and call.malformed:
            life.note += f"; no worker can decode it: {call.malformed}"
        return life

    async def _place(self, life: Life, glance: Glance) -> None:
        held = glance.held
        life.next = ["toolspan status", "toolspan consumers"]
        if held is None:
            if glance.passed:
                life.place = "passed_by"
                life.note = "nobody holds it and the group has passed it, so nobody will be given it: send it again"
                life.next = []
                return
            await self._await_its_turn(life)
            return
        life.held_by, life.attempt, life.idle = held.consumer, held.attempt, held.idle_ms / 1000
        if glance.body.fields is None:
            life.place = "deleted"
            life.note = "somebody deleted its body: its run can still answer, else it is reported as lost"
        elif held.consumer == PARKED:
            life.place = "parked"
            life.due = None if glance.due_ms is None else (glance.due_ms - glance.now_ms) / 1000
            life.reason = _why_parked(life)
            await self._await_its_turn(life)
        else:
            life.place = "in_flight"
            life.note = await self._holder(held.consumer)
            life.next = ["toolspan consumers", "toolspan pending"]

    async def _await_its_turn(self, life: Life) -> None:
        """Say what a call that nobody runs waits for."""
        life.note = await self._served(life.tool)
        order = (await self._control.read()).paused.get(life.tool or "")
        if order is not None:
            why = f": {order.why}" if order.why else ""
            life.note = f"its tool is paused by {order.who or 'nobody knows whom'}{why}; {life.note}"
            life.next = [f"toolspan resume {life.tool}", *life.next]

    async def _served(self, tool: str | None) -> str:
        serving = [
            one
            for one in await consumers(self._connection, self._settings)
            if one.state == "live" and one.worker and tool in one.worker.tools
        ]
        return f"live workers that serve its tool: {len(serving)}"

    async def _holder(self, name: str) -> str:
        for one in await consumers(self._connection, self._settings):
            if one.name == name and one.state in {"live", "draining"}:
                return f"its worker is {one.state}"
            if one.name == name and one.state == "silent":
                return "its worker is silent: a live one claims the call a lease after its last renewal"
        return "no worker is registered under that name: a live one claims the call a lease after its last renewal"

    async def _letter(self, letter_id: str) -> Life | None:
        """Tell of a call that lies in the dead letters."""
        try:
            letter = await self._letters.one(letter_id)
        except MalformedEntryError:
            return None
        if letter is None:
            return None
        now_ms = await self._entries.now_ms()
        life = _life(letter.entry_id, about(self._codec, letter.entry_id, letter.fields), now_ms)
        life.place, life.dead_letter, life.reason = "dead_letter", letter.id, letter.reason
        life.trace_id = trace_id_in(letter.traceparent) or life.trace_id
        life.held_by = letter.consumer
        life.note = f"{letter.error_type}: {letter.error_message}"
        life.attempts = _attempts(letter.attempts, now_ms)
        life.steps = await self._steps(letter.entry_id, now_ms)
        life.next = _after(letter)
        return life

    async def _recorded(self, asked: str) -> list[Life]:
        """Tell of a call that is gone, or that was replayed, as far as events and the audit do."""
        now_ms = await self._entries.now_ms()
        audits = await self._entries.audits_of(asked)
        made = next((one.get("entry", "") for one in audits if one.get("call") == asked), "")
        replay = made if ENTRY_ID.fullmatch(made) else None
        life = await self._entry(replay) if replay else None
        if life is not None:
            return [life]
        entry_id = replay or asked
        steps = await self._steps(entry_id, now_ms)
        if not steps and not audits:
            return []
        life = _life(entry_id, About(asked if replay else None, None), now_ms)
        life.place, life.steps = "gone", steps
        life.note, life.next = _end(asked, steps, audits)
        return [life]

    async def _steps(self, entry_id: str, now_ms: int) -> list[Step]:
        return [
            Step(
                one.get("event", ""),
                _ago(one.get("at", ""), now_ms),
                one.get("consumer", ""),
                one.get("attempt", ""),
                one.get("reason", ""),
            )
            for one in await self._entries.events_of(entry_id)
        ]


def _life(entry_id: str, call: About | None, now_ms: int) -> Life:
    life = Life("waiting", entry_id, "", age=_ago(entry_id.partition("-")[0], now_ms))
    if call is not None:
        life.call_id, life.tool, life.principal, life.trace_id = call.call_id, call.tool, call.principal, call.trace_id
        life.replay_of, life.attempt_of = call.replay_of, call.attempt_of
        life.deadline_left = None if call.deadline_ms is None else (call.deadline_ms - now_ms) / 1000
    return life


def _ids(life: Life) -> tuple[str | None, ...]:
    return life.call_id, life.entry_id, life.dead_letter, life.replay_of, life.attempt_of


def _attempts(attempts: Sequence[Attempt], now_ms: int) -> list[AttemptTold]:
    return [
        AttemptTold(
            one.attempt,
            one.consumer,
            (now_ms - one.start_ms) / 1000,
            None if one.end_ms is None else (now_ms - one.end_ms) / 1000,
            one.error,
        )
        for one in attempts
    ]


def _why_parked(life: Life) -> str | None:
    """Give what parked it last: `released`, or what ended its last attempt."""
    parked = [step.reason for step in life.steps if step.event in {"retried", "released"}]
    if parked:
        return parked[-1]
    return life.attempts[-1].error if life.attempts else None


def _after(letter: DeadLetter) -> list[str]:
    commands = [f"toolspan dlq show {letter.id}"]
    if letter.reason != "malformed":
        commands.append(f"toolspan dlq replay {letter.id}{_REPLAY.get(letter.reason, '')}")
    return [*commands, f'toolspan dlq discard {letter.id} --why "…"']


def _end(asked: str, steps: Sequence[Step], audits: Sequence[dict[str, str]]) -> tuple[str, list[str]]:
    """Say how a call that is gone has ended, and what can be done next."""
    for one in audits:
        if asked not in {one.get("dead_letter"), one.get("dlq.id")}:
            continue
        if one.get("action") == "replay":
            made = f"call {one.get('call')}, entry {one.get('entry')}"
            follow = [f"toolspan explain {one['entry']}"] if ENTRY_ID.fullmatch(one.get("entry", "")) else []
            return f"this dead letter was replayed by {one.get('who')} as {made}", follow
        if one.get("action") == "discard":
            return f"this dead letter was ended by {one.get('who')} ({one.get('action')}): {one.get('why', '')}", []
    if any(step.event == "replayed" and step.reason == asked for step in steps):
        return f"this dead letter was replayed by {steps[-1].consumer}", []
    last = steps[-1].event if steps else ""
    if last == "quarantined":
        return "it was quarantined, and its dead letter is gone: replayed or discarded", []
    if last == "lost":
        return "its body was deleted before it could be settled: it is lost", []
    return "it was settled after these steps, or deleted", []


def _ago(ms: str, now_ms: int) -> float | None:
    return (now_ms - int(ms)) / 1000 if ms.isdecimal() and ms.isascii() and len(ms) < 20 else None  # noqa: PLR2004
