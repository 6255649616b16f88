"""ToolClient: sends calls and waits for their replies."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from toolspan.codec import Codec, Limits
from toolspan.errors import (
    CallError,
    InvalidArguments,
    MalformedEntryError,
    RedisUnavailable,
    StoreError,
    StoreUnavailableError,
    ToolCancelled,
    ToolError,
    ToolTimeout,
    UnknownTool,
)
from toolspan.identity import new_call_id
from toolspan.gateway.replies import Replies
from toolspan.model import Failed, Reply, ToolCall
from toolspan.periodic import ended
from toolspan.settings import Settings
from toolspan.store import CallerStore, Connection, Inspector
from toolspan.telemetry.setup import start

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from toolspan.model import ToolInfo, TraceFields
    from toolspan.telemetry.probe import Calling, Probe

BLOCK_MS: Final = 1_000

_ERRORS: Final[dict[str, type[CallError]]] = {
    "cancelled": ToolCancelled,
    "invalid_arguments": InvalidArguments,
    "malformed": InvalidArguments,
    "unknown_tool": UnknownTool,
    "deadline_exceeded": ToolTimeout,
}


class ToolClient:
    """Calls tools over one Redis; `async with` opens and closes it. One client serves any number of calls at once.

    *settings* default to the environment's, *url* to theirs. Without a *probe*, telemetry is started as the `OTEL_*`
    variables say.
    """

    def __init__(
        self, settings: Settings | None = None, *, url: str | None = None, probe: Probe | None = None
    ) -> None:
        self.settings = settings or Settings.load()
        keys = self.settings.keys
        self.gateway_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._connection = Connection.to(url or self.settings.redis_url)
        self._telemetry = None
        if probe is None:
            self._telemetry = start(
                "gateway", keys=keys, instance_id=self.gateway_id, server=self._connection.address
            )
            probe = self._telemetry.probe
        self.probe = probe
        limits = Limits(self.settings.max_args_bytes, self.settings.max_reply_bytes, self.settings.max_nesting)
        self._codec = Codec(keys, limits)
        self._store = CallerStore(self._connection, keys, gateway_id=self.gateway_id, block_ms=BLOCK_MS)
        self._inspector = Inspector(self._connection, keys)
        self.replies = Replies(self._store, self._codec, self.probe)
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self.replies.run(), name="replies")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reading is not None:
            await ended(self._reading)
        if not len(self.replies):
            # Otherwise a worker still has something to write; it expires by itself then.
            with suppress(StoreError):
                await self._store.forget_replies()
        await self._connection.aclose()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.shutdown)

    async def call(  # noqa: PLR0913
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout: float = 30.0,
        call_id: str | None = None,
        tool_call_id: str | None = None,
        principal: str | None = None,
        meta: Mapping[str, str] | None = None,
        parent: TraceFields | None = None,
    ) -> Reply:
        """Run *tool* with *args* on some worker and give its reply; wait for *timeout* seconds at most.

        *parent* is the trace to go on from; the current span, if there is none.

        Raises:
            InvalidArguments: if the arguments do not fit the tool, or cannot be sent.
            UnknownTool: if no live worker serves the tool.
            ToolTimeout: if there was no reply in time; `detail` says whether the call may still run.
            ToolCancelled, ToolError: if the call ended in another way; `type` says which.
            TooLarge: if the arguments are over a limit.
            RedisUnavailable: if Redis cannot be reached; `maybe_accepted` says whether it has the call all the same.
        """
        call = self._made(tool, args, call_id, tool_call_id, principal, meta, reply_to=self._store.reply_to)
        with self.probe.calling(tool=tool, call_id=call.id, parent=parent) as calling:
            reply = await self._called(call, calling, timeout)
        if reply.failure is not None:
            raise _ERRORS.get(reply.failure.type, ToolError)(reply.failure, reply)
        return reply

    async def send(  # noqa: PLR0913
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        call_id: str | None = None,
        tool_call_id: str | None = None,
        principal: str | None = None,
        meta: Mapping[str, str] | None = None,
        parent: TraceFields | None = None,
    ) -> str:
        """Have *tool* run with *args*, without waiting for it, and give the call id; a failure becomes a dead letter.

        Raises:
            InvalidArguments: if the arguments cannot be sent.
            TooLarge: if they are over a limit.
            RedisUnavailable: if Redis cannot be reached; `maybe_accepted` says whether it has the call all the same.
        """
        call = self._made(tool, args, call_id, tool_call_id, principal, meta, reply_to=None)
        with self.probe.calling(tool=tool, call_id=call.id, parent=parent) as calling:
            try:
                await self._append(call, calling, timeout=None)
            except StoreError as exc:
                raise _unavailable(exc) from exc
        return call.id

    async def detach(  # noqa: PLR0913
        self,
        tool: str,
        args: Mapping[str, Any] | None,
        *,
        timeout: float,
        call_id: str,
        principal: str | None = None,
        parent: TraceFields | None = None,
    ) -> tuple[str, asyncio.Future[Reply]]:
        """Send a call and give its entry id at once, with what will be its reply. Raises what `send` does."""
        call = self._made(tool, args, call_id, None, principal, None, reply_to=self._store.reply_to)
        future = self.replies.expect(call.id)
        with self.probe.calling(tool=tool, call_id=call.id, parent=parent) as calling:
            try:
                return await self._append(call, calling, timeout), future
            except StoreError as exc:
                self.replies.forget(call.id)
                raise _unavailable(exc) from exc

    async def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers serve now.

        Raises:
            RedisUnavailable: if Redis cannot be reached.
        """
        try:
            return await self._inspector.tools()
        except StoreError as exc:
            raise _unavailable(exc) from exc

    async def _called(self, call: ToolCall, calling: Calling, timeout: float) -> Reply:
        future = self.replies.expect(call.id)
        lost: StoreError | None = None
        try:
            async with asyncio.timeout(timeout):
                try:
                    await self._append(call, calling, timeout)
                except StoreUnavailableError as exc:
                    if not exc.maybe_ran:
                        raise
                    # It may have been accepted, so it is not sent again: the reply will tell.
                    lost = exc
                reply = await future
        except TimeoutError:
            if lost is not None:
                raise _unavailable(lost) from lost
            calling.failed("no_reply")
            message = f"no reply from {call.tool} within {timeout:g} s"
            raise ToolTimeout(Failed("deadline_exceeded", message, True, {"may_still_run": True})) from None  # noqa: FBT003
        except StoreError as exc:
            calling.failed("refused")
            raise _unavailable(exc) from exc
        finally:
            self.replies.forget(call.id)
        calling.answered(reply)
        return reply

    async def _append(self, call: ToolCall, calling: Calling, timeout: float | None) -> str:
        fields = self._encoded(call, calling)
        timeout_ms = None if timeout is None else max(1, int(timeout * 1000))
        entry_id = await self._store.append(fields, timeout_ms=timeout_ms)
        calling.sent(entry_id)
        return entry_id

    def _encoded(self, call: ToolCall, calling: Calling) -> list[str | bytes]:
        try:
            return self._codec.encode_call(call, trace=calling.trace)
        except MalformedEntryError as exc:
            calling.failed("refused")
            raise InvalidArguments(Failed("malformed", str(exc))) from None

    def _made(  # noqa: PLR0913, PLR0917
        self,
        tool: str,
        args: Mapping[str, Any] | None,
        call_id: str | None,
        tool_call_id: str | None,
        principal: str | None,
        meta: Mapping[str, str] | None,
        *,
        reply_to: str | None,
    ) -> ToolCall:
        return ToolCall(
            call_id or new_call_id(),
            tool,
            dict(args or {}),
            reply_to=reply_to,
            tool_call_id=tool_call_id,
            principal=principal,
            meta=dict(meta or {}),
        )


def _unavailable(exc: StoreError) -> RedisUnavailable:
    maybe = isinstance(exc, StoreUnavailableError) and exc.maybe_ran
    said = "the call may have been accepted" if maybe else "the call was not accepted"
    return RedisUnavailable(f"Redis is unavailable ({exc}); {said}", maybe_accepted=maybe)
