"""Dead letters: find, replay, discard, purge."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from toolspan.codec import call_id_in
from toolspan.errors import MalformedEntryError, NotReplayableError, TooLarge
from toolspan.identity import new_call_id
from toolspan.model import NO_TRACE, OTHER_TOOL, LetterEntry
from toolspan.operate.stopping import finished, heed_cancellation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from toolspan.codec import Codec
    from toolspan.model import DeadLetter, TraceFields
    from toolspan.store import DeadLetterStore
    from toolspan.telemetry.probe import Probe

_ASK_FIRST: Final = {
    "outcome_unknown": (
        "did_not_run",
        "it was begun once and must not run twice: say --did-not-run if you know better",
    ),
    "reply_failed": ("run_again", "it ran already, only its reply was lost: say --run-again to have it run again"),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; None takes all. *since_ms* is unix milliseconds by Redis' clock, see `dated`."""

    tool: str | None = None
    reason: str | None = None
    since_ms: int | None = None
    fingerprint: str | None = None
    newer_than_seconds: int | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether *letter* is one of these."""
        return (
            (self.tool is None or tool_of(letter) == self.tool)
            and (self.reason is None or letter.reason == self.reason)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
            and (self.fingerprint is None or letter.fingerprint == self.fingerprint)
        )

    def __str__(self) -> str:
        """Say which, for the audit stream; nothing if it takes all."""
        since = None
        if self.since_ms is not None:
            since = datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat(timespec="milliseconds")
        told = (("tool", self.tool), ("reason", self.reason), ("since", since), ("fingerprint", self.fingerprint))
        return " ".join(f"{name}={value}" for name, value in told if value is not None)

    async def dated(self, store: DeadLetterStore) -> Filter:
        """Give the same with a moment for its age, by Redis' clock, which dead letters have their times from."""
        if self.newer_than_seconds is None:
            return self
        since_ms = max(0, await store.now_ms() - self.newer_than_seconds * 1000)
        return replace(self, since_ms=since_ms, newer_than_seconds=None)


ALL: Final = Filter()


@dataclass(frozen=True, slots=True)
class Said:
    """What an operator has to say before a dead letter is replayed that may do harm."""

    did_not_run: bool = False
    run_again: bool = False


NOTHING_SAID: Final = Said()


async def find(
    store: DeadLetterStore, wanted: Filter, *, left_out: list[str] | None = None, through: str = "+"
) -> AsyncIterator[DeadLetter]:
    """Go through the dead letters that are *wanted*, oldest first; *left_out* gets the ids of what cannot be read."""
    async for letter in store.all(left_out, through=through):
        heed_cancellation()
        if wanted.takes(letter):
            yield letter


async def find_now(store: DeadLetterStore, wanted: Filter) -> AsyncIterator[DeadLetter]:
    """Go through the dead letters that are *wanted* and lie there now: none that come meanwhile."""
    last = await store.last_id()
    if last is not None:
        async for letter in find(store, wanted, through=last):
            yield letter


async def entries(
    store: DeadLetterStore, wanted: Filter, *, left_out: list[str] | None = None
) -> AsyncIterator[LetterEntry]:
    """Go through what lies among the dead letters, byte for byte, if it is *wanted*.

    What cannot be read is given where all is wanted; otherwise *left_out* gets its id.
    """
    async for entry in store.entries():
        if entry.letter is None:
            if wanted == ALL:
                yield entry
            elif left_out is not None:
                left_out.append(entry.id)
        elif wanted.takes(entry.letter):
            yield entry


@dataclass(slots=True)
class Cause:
    """Dead letters of one fingerprint: how many, and the latest."""

    count: int
    latest: DeadLetter


async def causes(letters: AsyncIterator[DeadLetter]) -> list[Cause]:
    """Put *letters* together by fingerprint, the most frequent first."""
    found: dict[str, Cause] = {}
    async for letter in letters:
        cause = found.setdefault(letter.fingerprint, Cause(0, letter))
        cause.count += 1
        cause.latest = letter
    return sorted(found.values(), key=lambda cause: -cause.count)


def tool_of(letter: DeadLetter) -> str:
    """Name the tool that was called, as far as the original says one."""
    values = dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))
    if b"tool" in values:
        return values[b"tool"].decode(errors="replace")
    try:
        payload: Any = from_json(values.get(b"payload", b"{}"))
    except ValueError:
        return OTHER_TOOL
    name = payload.get("tool") if isinstance(payload, dict) else None
    return name if isinstance(name, str) else OTHER_TOOL


async def replay(
    store: DeadLetterStore,
    letter: DeadLetter,
    probe: Probe,
    *,
    codec: Codec,
    who: str,
    said: Said = NOTHING_SAID,
    reply_to: str | None = None,
    matching: str = "",
) -> tuple[str, str]:
    """Put *letter* back on the stream as a new call, and give that one's call id and entry id.

    It is answered to *reply_to*, if that is given. *matching* says by which filters it was chosen.

    Raises:
        NotReplayableError: if it cannot be replayed, must be asked for explicitly, or was replayed already. One that
            a worker with the limits of *codec* would refuse stays where it is.
    """
    call_id = new_call_id()
    try:
        _refuse(letter, said)
        with probe.replaying(letter, call_id, tool_of(letter)) as replaying:
            fields = _fields(letter, call_id, replaying.trace, codec, reply_to)
            written = await finished(store.replay(letter, call_id=call_id, fields=fields, who=who, matching=matching))
            entry_id = _there(letter, written)
            replaying.sent(entry_id)
    except NotReplayableError as exc:
        probe.refused_replay(letter.id, str(exc))
        raise
    probe.replayed(letter, call_id, entry_id, replaying=replaying)
    return call_id, entry_id


def check(letter: DeadLetter, *, codec: Codec, said: Said = NOTHING_SAID) -> None:
    """Do nothing, where `replay` would replay *letter*.

    Raises:
        NotReplayableError: where that would refuse it.
    """
    _refuse(letter, said)
    _fields(letter, new_call_id(), NO_TRACE, codec, None)


def _refuse(letter: DeadLetter, said: Said) -> None:
    if letter.reason == "malformed":
        message = f"{letter.id} is malformed: no worker could decode it"
        raise NotReplayableError(message)
    needed = _ASK_FIRST.get(letter.reason)
    if needed is not None and not getattr(said, needed[0]):
        message = f"{letter.id} is not replayed: {needed[1]}"
        raise NotReplayableError(message)


def _fields(
    letter: DeadLetter, call_id: str, trace: TraceFields, codec: Codec, reply_to: str | None
) -> list[str | bytes]:
    try:
        return codec.encode_replay(letter.fields, call_id=call_id, replay_of=letter.id, trace=trace, reply_to=reply_to)
    except (MalformedEntryError, TooLarge) as exc:
        message = f"{letter.id} cannot be replayed, a worker would refuse the new call: {exc}"
        raise NotReplayableError(message) from None


def _there(letter: DeadLetter, entry_id: str | None) -> str:
    if entry_id is None:
        message = f"{letter.id} is gone: it was replayed or discarded meanwhile"
        raise NotReplayableError(message)
    return entry_id


async def discard(
    store: DeadLetterStore, letter: DeadLetter | LetterEntry, probe: Probe, *, who: str, why: str, matching: str = ""
) -> bool:
    """Throw *letter* away, readable or not; False if somebody was quicker."""
    read = letter.letter if isinstance(letter, LetterEntry) else letter
    entry_id = read.entry_id if read else ""
    gone = await finished(store.discard(letter.id, entry_id=entry_id, who=who, why=why, matching=matching))
    if gone:
        if read is None:
            probe.discarded(letter.id, None, why)
        else:
            call_id = call_id_in(read.entry_id, read.fields)
            probe.discarded(letter.id, read, why, call_id=call_id, tool=tool_of(read))
    return gone


@dataclass(frozen=True, slots=True)
class Purged:
    """How many dead letters went, and the id of the youngest; None if there were none to go."""

    count: int
    up_to: str | None


async def purge(
    store: DeadLetterStore, probe: Probe, *, older_than_seconds: int, who: str, why: str, asked: str
) -> Purged:
    """Delete all that have lain there for longer, readable or not, in steps; *asked* says what was asked for.

    By Redis' clock, and when each came to lie there, which its id says.
    """
    last = await _last_of(store, older_than_seconds)
    if last is None:
        return Purged(0, None)
    count = 0
    try:
        async for count in store.purge(through=last, who=who, why=why, matching=asked):  # noqa: B007
            pass
    finally:
        if count:
            probe.purged(count, up_to=last, who=who)
    return Purged(count, last)


async def to_purge(store: DeadLetterStore, *, older_than_seconds: int) -> Purged:
    """Say what `purge` would delete."""
    last = await _last_of(store, older_than_seconds)
    if last is None:
        return Purged(0, None)
    count = 0
    async for _ in store.entries(through=last):
        count += 1
    return Purged(count, last)


async def _last_of(store: DeadLetterStore, older_than_seconds: int) -> str | None:
    return await store.last_id(before_ms=await store.now_ms() - older_than_seconds * 1000)
