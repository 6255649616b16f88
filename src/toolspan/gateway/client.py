"""ToolClient: sends calls and waits for their replies."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

from toolspan.codec import MAX_ID_CHARS, Codec, Limits, is_one_line
from toolspan.errors import (
    InvalidArguments,
    RedisUnavailable,
    StoreError,
)
from toolspan.gateway.asking import DEFAULT_TIMEOUT, Asking
from toolspan.gateway.endings import unavailable
from toolspan.gateway.leaving import Leaving
from toolspan.gateway.listener import Listener
from toolspan.gateway.once import OnceCalls
from toolspan.gateway.outcomes import succeeded
from toolspan.gateway.replies import BLOCK_MS, Replies
from toolspan.gateway.routes import Routes
from toolspan.gateway.streams import CallStream
from toolspan.model import Failed, Reply
from toolspan.redaction import Redactor
from toolspan.settings import Settings
from toolspan.store import CallerStore, Channels, Connection, Directory, Inspector
from toolspan.telemetry.setup import start

if TYPE_CHECKING:
    from types import TracebackType

    from toolspan.model import ToolInfo, TraceFields
    from toolspan.telemetry.probe import Probe

_CLOSE_SECONDS: Final = 2.0
_CANCEL_MS: Final = 86_400_000
"""How long a cancellation is kept for a call whose deadline is not known."""


class ToolClient:
    """Calls tools over one Redis; `async with` opens and closes it. Any number of calls may run at once.

    *settings* default to the environment's, *url* to theirs. Without a *probe*, telemetry is started as the
    `OTEL_*` variables say.
    """

    def __init__(self, settings: Settings | None = None, *, url: str | None = None, probe: Probe | None = None) -> None:
        self.settings = settings or Settings.load()
        keys = self.settings.keys
        self.gateway_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._connection = Connection.to(url or self.settings.redis_url)
        self._telemetry = None
        if probe is None:
            self._telemetry = start(
                "gateway",
                keys=keys,
                instance_id=self.gateway_id,
                server=self._connection.address,
                redact=Redactor.named(self.settings.redact),
            )
            probe = self._telemetry.probe
        self.probe = probe
        limits = self.settings.max_args_bytes, self.settings.max_reply_bytes, self.settings.max_nesting
        codec = Codec(keys, Limits(*limits))
        self._store = CallerStore(
            self._connection,
            keys,
            gateway_id=self.gateway_id,
            block_ms=BLOCK_MS,
            backlog_limit=self.settings.backlog_limit,
            once_ttl_seconds=self.settings.idempotency_ttl_seconds,
            wait_replicas=self.settings.wait_replicas,
        )
        self._inspector = Inspector(self._connection, keys)
        self.replies = Replies(self._store, codec, self.probe)
        self._once = OnceCalls(
            self._store,
            Listener(Channels(self._connection), self.probe),
            self.replies,
            keys,
            ttl_seconds=self.settings.idempotency_ttl_seconds,
        )
        self._directory = Directory(self._connection, keys)
        self._routes = Routes(self._directory, keys, self.probe)
        self.stream_for = self._routes.stream_for
        self._leaving = Leaving(self._store, self.probe)
        self.asking = Asking(
            self._store, codec, self.replies, self._once, directory=self._directory, leaving=self._leaving
        )
        """What front doors built on this send calls with."""

    async def __aenter__(self) -> Self:
        self.replies.start()
        self._routes.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leaving.finish()
        answered = not len(self.replies)
        await self._routes.stop()
        await self.replies.stop()
        await self._once.stop()
        if answered:
            # Otherwise a worker still has something to write; the stream expires by itself then.
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._store.forget_replies()
        await self._connection.aclose()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.shutdown)

    async def call(
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - it goes to the workers, too
        idempotency_key: str | None = None,
        tool_call_id: str | None = None,
        principal: str | None = None,
        meta: Mapping[str, str] | None = None,
        parent: TraceFields | None = None,
    ) -> Reply:
        """Run *tool* with *args* on some worker and give its reply; wait for *timeout* seconds at most.

        Without a *timeout* that is `DEFAULT_TIMEOUT`.

        Cancelling this cancels the call, wherever it is, unless others may have joined it by its *idempotency_key*;
        so does the end of *timeout*, by the call's own deadline.
        *parent* is the trace to go on from; the current span, if there is none.

        All calls of one *principal* with the same *idempotency_key*, tool and arguments are one call, and get its one
        reply, for as long as the key is remembered. After `cancelled`, `deadline_exceeded`, `worker_error` and
        `quarantined` it is not: the next one is run.

        Raises:
            InvalidArguments: if the arguments do not fit the tool, or cannot be sent.
            IdempotencyConflict: if the key stands for a call with other arguments.
            BacklogFull: if too many calls wait already; `retry_after` says when to try again.
            UnknownTool: if no live worker serves the tool.
            ToolTimeout: if there was no reply in time; `detail` says whether the call may still run.
            ToolCancelled, ToolError: if the call ended in another way; `type` says which.
            TooLarge: if the arguments are over a limit.
            RedisUnavailable: if Redis cannot be reached; `maybe_accepted` says if it may have the call.
        """
        call = self.asking.new_call(
            tool,
            args,
            idempotency_key=idempotency_key,
            tool_call_id=tool_call_id,
            principal=principal,
            meta=meta,
        )
        calls = await self.stream_for(tool)
        with self.probe.calling(
            tool=tool, call_id=call.id, calls=calls, tool_call_id=tool_call_id, parent=parent
        ) as calling:
            reply = await self.asking.ask(call, calling, timeout=DEFAULT_TIMEOUT if timeout is None else timeout)
        return succeeded(reply)

    def stream(
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        tool_call_id: str | None = None,
        principal: str | None = None,
        meta: Mapping[str, str] | None = None,
        parent: TraceFields | None = None,
    ) -> CallStream:
        """Run *tool* and follow it: `async with` sends the call, `async for` gives its `Progress`, `reply()` its end.

        Takes and raises what `call` does.
        """
        call = self.asking.new_call(
            tool, args, idempotency_key=idempotency_key, tool_call_id=tool_call_id, principal=principal, meta=meta
        )
        return CallStream(self, call, timeout=DEFAULT_TIMEOUT if timeout is None else timeout, parent=parent)

    async def cancel(self, call_id: str) -> None:
        """Cancel a call, whoever sent it and wherever it is: it ends as `cancelled` unless its outcome is known first.

        Nobody is told if there is no such call, or if it has ended.

        Raises:
            InvalidArguments: if *call_id* is none.
            RedisUnavailable: if Redis cannot be reached.
        """
        await self.cancel_call(call_id)

    async def send(
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        tool_call_id: str | None = None,
        principal: str | None = None,
        meta: Mapping[str, str] | None = None,
        parent: TraceFields | None = None,
    ) -> str:
        """Have *tool* run with *args* without waiting, and give the call id; a failure becomes a dead letter.

        With an *idempotency_key* that was used before, nothing is sent, and the id is that of the first call.

        Raises:
            InvalidArguments: if the arguments cannot be sent.
            IdempotencyConflict: if the key stands for a call with other arguments.
            BacklogFull: if too many calls wait already; `retry_after` says when to try again.
            TooLarge: if they are over a limit.
            RedisUnavailable: if Redis cannot be reached; `maybe_accepted` says if it may have the call.
        """
        call = self.asking.new_call(
            tool,
            args,
            idempotency_key=idempotency_key,
            tool_call_id=tool_call_id,
            principal=principal,
            meta=meta,
        )
        calls = await self.stream_for(tool)
        with self.probe.calling(
            tool=tool, call_id=call.id, calls=calls, tool_call_id=tool_call_id, parent=parent
        ) as calling:
            return await self.asking.send(call, calling)

    async def tools(self) -> list[ToolInfo]:
        """Describe the tools that live workers of any stream serve now.

        Raises:
            RedisUnavailable: if Redis cannot be reached.
        """
        try:
            return await self._directory.tools()
        except StoreError as exc:
            raise RedisUnavailable(f"Redis is unavailable ({exc})") from exc

    async def tools_and_pauses(self) -> list[tuple[ToolInfo, bool]]:
        """Do what `tools` does, and tell of each whether its calls wait, for an operator has paused it.

        Raises:
            RedisUnavailable: if Redis cannot be reached.
        """
        try:
            return await self._directory.tools_and_pauses()
        except StoreError as exc:
            raise RedisUnavailable(f"Redis is unavailable ({exc})") from exc

    async def check(self) -> None:
        """Make sure that Redis answers.

        Raises:
            RedisUnavailable: if it does not.
        """
        try:
            await self._inspector.ping()
        except StoreError as exc:
            raise RedisUnavailable(f"Redis is unavailable ({exc})") from exc

    # ── for front doors built on this ──────────────────────────────────────────────────────────────

    async def cancel_call(self, call_id: str, *, entry_id: str = "") -> None:
        """Do what `cancel` does; with its *entry_id*, a call that is parked is settled at once."""
        if len(call_id) > MAX_ID_CHARS or not is_one_line(call_id):
            message = f"a call id has 1 to {MAX_ID_CHARS} characters, none of them a control character"
            raise InvalidArguments(Failed("malformed", message))
        try:
            await self._store.cancel(call_id, ttl_ms=_CANCEL_MS, entry_id=entry_id)
        except StoreError as exc:
            raise unavailable(exc) from exc
