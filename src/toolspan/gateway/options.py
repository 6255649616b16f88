"""What goes with a call besides its arguments, for whoever hands it on."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Timed(TypedDict, total=False):
    timeout: float | None


class SendOptions(TypedDict, total=False):
    """What `ToolClient.send` takes by name, but for the trace: that of another thread is not this one's."""

    idempotency_key: str | None
    tool_call_id: str | None
    principal: str | None
    meta: Mapping[str, str] | None


class CallOptions(_Timed, SendOptions, total=False):
    """What `ToolClient.call` and `ToolClient.stream` take by name, but for the trace."""
