"""Dead letters: find, replay, discard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from toolspan.errors import MalformedEntryError, NotReplayableError, TooLarge
from toolspan.identity import new_call_id
from toolspan.model import OTHER_TOOL

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
    """Which dead letters; None takes all. *since_ms* is unix milliseconds."""

    tool: str | None = None
    reason: str | None = None
    since_ms: int | None = None

    def takes(self, letter: DeadLetter) -> bool:
        """Whether *letter* is one of these."""
        return (
            (self.tool is None or tool_of(letter) == self.tool)
            and (self.reason is None or letter.reason == self.reason)
            and (self.since_ms is None or letter.at_ms >= self.since_ms)
        )


async def find(
    store: DeadLetterStore, wanted: Filter, *, left_out: list[str] | None = None
) -> AsyncIterator[DeadLetter]:
    """Go through the dead letters that are *wanted*, oldest first; *left_out* gets the ids of what cannot be read."""
    async for letter in store.all(left_out):
        if wanted.takes(letter):
            yield letter


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
    did_not_run: bool = False,
    run_again: bool = False,
) -> tuple[str, str]:
    """Put *letter* back on the stream as a new call, and give that one's call id and entry id.

    Raises:
        NotReplayableError: if it cannot be replayed, must be asked for explicitly, or was replayed already. One that
            a worker with the limits of *codec* would refuse stays where it is.
    """
    call_id = new_call_id()
    try:
        _refuse(letter, did_not_run=did_not_run, run_again=run_again)
        with probe.replaying(letter, call_id, tool_of(letter)) as replaying:
            fields = _fields(letter, call_id, replaying.trace, codec)
            entry_id = await _put_back(store, letter, call_id, fields, who=who)
            replaying.sent(entry_id)
    except NotReplayableError as exc:
        probe.refused_replay(letter.id, str(exc))
        raise
    probe.replayed(letter, call_id, entry_id)
    return call_id, entry_id


def _refuse(letter: DeadLetter, **said: bool) -> None:
    if letter.reason == "malformed":
        message = f"{letter.id} is malformed: no worker could decode it"
        raise NotReplayableError(message)
    needed = _ASK_FIRST.get(letter.reason)
    if needed is not None and not said[needed[0]]:
        message = f"{letter.id} is not replayed: {needed[1]}"
        raise NotReplayableError(message)


def _fields(letter: DeadLetter, call_id: str, trace: TraceFields, codec: Codec) -> list[str | bytes]:
    try:
        return codec.encode_replay(letter.fields, call_id=call_id, replay_of=letter.id, trace=trace)
    except (MalformedEntryError, TooLarge) as exc:
        message = f"{letter.id} cannot be replayed, a worker would refuse the new call: {exc}"
        raise NotReplayableError(message) from None


async def _put_back(
    store: DeadLetterStore, letter: DeadLetter, call_id: str, fields: list[str | bytes], *, who: str
) -> str:
    entry_id = await store.replay(letter, call_id=call_id, fields=fields, who=who)
    if entry_id is None:
        message = f"{letter.id} is gone: it was replayed or discarded meanwhile"
        raise NotReplayableError(message)
    return entry_id


async def discard(store: DeadLetterStore, letter: DeadLetter, probe: Probe, *, who: str, why: str) -> bool:
    """Throw *letter* away; False if somebody was quicker."""
    gone = await store.discard(letter.id, who=who, why=why)
    if gone:
        probe.discarded(letter, why)
    return gone
