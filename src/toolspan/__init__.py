"""Observability-first tool execution on Redis Streams: declare tools, serve them, call them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolspan.errors import (
        BacklogFull,
        CallError,
        IdempotencyConflict,
        InvalidArguments,
        LeaseMismatchError,
        MalformedEntryError,
        RedisUnavailable,
        SettingsError,
        StoreError,
        TooLarge,
        ToolCancelled,
        ToolDefinitionError,
        ToolError,
        ToolspanError,
        ToolTimeout,
        UnknownTool,
    )
    from toolspan.gateway.client import ToolClient
    from toolspan.gateway.streams import CallStream
    from toolspan.gateway.sync import SyncCallStream, SyncToolClient
    from toolspan.model import Progress, Reply, Timings, ToolInfo
    from toolspan.settings import Settings
    from toolspan.tools.context import CurrentCall, current_call
    from toolspan.tools.registry import Retry, tool, worker_lifespan
    from toolspan.worker.consumer import ToolExecConsumer

__all__ = [
    "BacklogFull",
    "CallError",
    "CallStream",
    "CurrentCall",
    "IdempotencyConflict",
    "InvalidArguments",
    "LeaseMismatchError",
    "MalformedEntryError",
    "Progress",
    "RedisUnavailable",
    "Reply",
    "Retry",
    "Settings",
    "SettingsError",
    "StoreError",
    "SyncCallStream",
    "SyncToolClient",
    "Timings",
    "TooLarge",
    "ToolCancelled",
    "ToolClient",
    "ToolDefinitionError",
    "ToolError",
    "ToolExecConsumer",
    "ToolInfo",
    "ToolTimeout",
    "ToolspanError",
    "UnknownTool",
    "current_call",
    "tool",
    "worker_lifespan",
]

# Whoever declares tools shall not wait for the client of Redis, nor callers for pydantic's view of signatures.
_HOME = {
    **dict.fromkeys(("SyncCallStream", "SyncToolClient"), "toolspan.gateway.sync"),
    **dict.fromkeys(("ToolClient",), "toolspan.gateway.client"),
    **dict.fromkeys(("CallStream",), "toolspan.gateway.streams"),
    **dict.fromkeys(("ToolExecConsumer",), "toolspan.worker.consumer"),
    **dict.fromkeys(("CurrentCall", "current_call"), "toolspan.tools.context"),
    **dict.fromkeys(("Retry", "tool", "worker_lifespan"), "toolspan.tools.registry"),
    **dict.fromkeys(("Progress", "Reply", "Timings", "ToolInfo"), "toolspan.model"),
    **dict.fromkeys(("Settings",), "toolspan.settings"),
}


if not TYPE_CHECKING:
    # Type checkers see the imports above; with this they would take every name for one of ours.
    def __getattr__(name: str) -> Any:
        if name not in __all__:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        return getattr(import_module(_HOME.get(name, "toolspan.errors")), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
