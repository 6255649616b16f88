"""What a caller is told where there is no reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolspan.errors import RedisUnavailable, StoreUnavailableError, ToolTimeout
from toolspan.model import Failed

if TYPE_CHECKING:
    from toolspan.errors import StoreError
    from toolspan.model import ToolCall


@dataclass(slots=True)
class Sending:
    """What is known about an append: *accepted* for sure, or *lost* on the way, so that nobody can say."""

    accepted: bool = False
    lost: StoreError | None = None


def no_reply(
    call: ToolCall, timeout: float, sending: Sending, serving: int | None = None
) -> ToolTimeout | RedisUnavailable:
    """Choose what the caller is told when his time is up: a call that Redis never confirmed may not exist.

    *serving* is how many live workers serve the tool, where that is known.
    """
    message = f"no reply from {call.tool} within {timeout:g} s"
    if sending.accepted:
        detail: dict[str, bool | int] = {"may_still_run": True}
        if serving is not None:
            detail["live_workers"] = serving
        message = f"{message}: {_served_by(serving)}the call may still run"
        return ToolTimeout(Failed("deadline_exceeded", message, retryable=True, detail=detail))
    return unavailable(sending.lost or StoreUnavailableError(message, maybe_ran=True))


def _served_by(serving: int | None) -> str:
    if serving is None:
        return ""
    if serving == 0:
        return "no live worker serves it, and "
    return "1 live worker serves it, and " if serving == 1 else f"{serving} live workers serve it, and "


def unavailable(exc: StoreError) -> RedisUnavailable:
    """Say whether the call may have been taken although Redis failed."""
    maybe = isinstance(exc, StoreUnavailableError) and exc.maybe_ran
    said = "it may have taken the call all the same" if maybe else "nothing was taken"
    return RedisUnavailable(f"Redis is unavailable ({exc}); {said}", maybe_accepted=maybe)
