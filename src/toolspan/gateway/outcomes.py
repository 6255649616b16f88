"""What a reply means to whoever called: its result, or an exception."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from toolspan.errors import CallError, InvalidArguments, ToolCancelled, ToolError, ToolTimeout, UnknownTool

if TYPE_CHECKING:
    from toolspan.model import Reply

ERRORS: Final[dict[str, type[CallError]]] = {
    "cancelled": ToolCancelled,
    "invalid_arguments": InvalidArguments,
    "malformed": InvalidArguments,
    "unknown_tool": UnknownTool,
    "deadline_exceeded": ToolTimeout,
}


def succeeded(reply: Reply) -> Reply:
    """Give *reply*, if it has a result.

    Raises:
        CallError: if it tells of a failure; which one is said by its class.
    """
    if reply.failure is not None:
        raise ERRORS.get(reply.failure.type, ToolError)(reply.failure, reply)
    return reply
