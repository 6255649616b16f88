"""What has to hold on a plane once all its calls have ended, as Redis and the tools' own files show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from toolspan.store import StreamStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.points.stage import Promise, Stage

# The reply that goes with a dead letter; every other dead letter comes with none, and every other reply without one.
_ANSWERED: Final = {
    "malformed": "malformed",
    "worker_lost": "quarantined",
    "max_attempts": "worker_error",
    "outcome_unknown": "outcome_unknown",
}
_PERMANENT: Final = ("stream", "dlq", "workers", "events", "streams", "audit")


async def broken(stage: Stage) -> list[str]:
    """Say which promises are not kept."""
    return [problem async for problem in _problems(stage)]


async def _problems(stage: Stage) -> AsyncIterator[str]:
    async for problem in _ends(stage):
        yield problem
    if pending := await stage.plane.pending():
        yield f"left pending: {pending}"
    # What a group that was lost leaves on record of calls, a worker clears away after a while.
    await _store(stage).forget_gone()
    for key in (stage.plane.keys.parked, stage.plane.keys.attempts):
        if await stage.redis.type(key) != b"none":
            yield f"left behind: {key}"
    async for problem in _reaping(stage):
        yield problem
    async for problem in leaks(stage):
        yield problem


async def leaks(stage: Stage) -> AsyncIterator[str]:
    """Say what is left that nothing ever ends."""
    async for key in stage.redis.scan_iter(f"{stage.settings.prefix}:*"):
        name = key.decode()
        if name.split(":")[1] not in _PERMANENT and "on-purpose" not in name and await stage.redis.pttl(key) == -1:
            yield f"left without a time to live: {name}"


async def _ends(stage: Stage) -> AsyncIterator[str]:
    replies: dict[str, list[str]] = {}
    for reply in await stage.plane.replies():
        replies.setdefault(reply.call_id, []).append(reply.failure.type if reply.failure else "ok")
    letters: dict[str, list[str]] = {}
    for letter in await stage.plane.dead_letters():
        letters.setdefault(letter.entry_id, []).append(letter.reason)
    for promise in stage.promises:
        for problem in _of(promise, replies.pop(promise.call_id, []), letters.pop(promise.entry_id, [])):
            yield f"{promise.call_id} {problem}"
        if promise.once and stage.starts(promise.call_id) > 1:
            yield f"{promise.call_id} was begun {stage.starts(promise.call_id)} times"
    if replies:
        yield f"replies to nobody's call: {replies}"
    if letters:
        yield f"dead letters of nobody's call: {letters}"


def _of(promise: Promise, replies: list[str], letters: list[str]) -> list[str]:
    told = [f"has the replies {replies} and the dead letters {letters}"]
    if len(letters) > 1 or len(replies) != promise.replied:
        return told
    if not promise.replied:
        # Success is silence.
        return [] if promise.ends >= set(letters or ["ok"]) else told
    due = _ANSWERED.get(letters[0]) if letters else replies[0]
    lacks = not letters and replies[0] in {"malformed", "quarantined", "outcome_unknown"}
    return told if replies[0] not in promise.ends or due != replies[0] or lacks else []


async def _reaping(stage: Stage) -> AsyncIterator[str]:
    """Delete every consumer, as a worker would after a while: whoever is gone holds nothing, and leaves nothing."""
    store = _store(stage)
    for name in {*await stage.plane.consumers(), *await stage.plane.beating()}:
        if not await store.reap(name, silent_ms=0):
            yield f"{name} cannot be reaped"
    if left := [*await stage.plane.consumers(), *await stage.plane.beating()]:
        yield f"left after the reaping: {left}"


def _store(stage: Stage) -> StreamStore:
    return StreamStore(
        stage.connection,
        stage.settings.keys,
        me="outside",
        block_ms=100,
        registration_ttl_ms=1_000,
        reply_ttl_seconds=60,
        reply_maxlen=1_000,
    )
