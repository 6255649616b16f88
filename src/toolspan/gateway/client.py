"""ToolClient: sends calls and waits for their replies."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self

from toolspan.codec import MAX_ID_CHARS, Codec, Limits, is_one_line
from toolspan.errors import (
    InvalidArguments,
    MalformedEntryError,
    RedisUnavailable,
    StoreError,
    StoreUnavailableError,
)
from toolspan.gateway.endings import Sending, no_reply, unavailable
from toolspan.gateway.leaving import Leaving
from toolspan.gateway.listener import Listener
from toolspan.gateway.once import OnceCalls
from toolspan.gateway.outcomes import succeeded
from toolspan.gateway.replies import BLOCK_MS, Replies
from toolspan.gateway.routes import Routes
from toolspan.gateway.streams import CallStream
from toolspan.identity import new_call_id
from toolspan.model import Failed, Remembered, Reply, ToolCall
from toolspan.redaction import Redactor
from toolspan.settings import Settings
from toolspan.store import CallerStore, Channels, Connection, Directory, Inspector
from toolspan.telemetry.setup import start

if TYPE_CHECKING:
    from types import TracebackType

    from toolspan.model import ToolInfo, TraceFields
    from toolspan.telemetry.callers import Calling
    from toolspan.telemetry.probe import Probe

DEFAULT_TIMEOUT: Final = 30.0
LONGEST_TIMEOUT: Final = 7 * 86_400.0
_CLOSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.5
"""How long a caller whose time is up may be kept to be told why."""


_CANCEL_MS: Final = 86_400_000
"""How long a cancellation is kept for a call whose deadline is not known."""

_CANCEL_MARGIN_MS: Final = 10_000
"""How much longer than our own deadline: the workers' counts from the append, which may be under way still."""


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
        self._codec = Codec(keys, Limits(*limits))
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
        self.replies = Replies(self._store, self._codec, self.probe)
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
        call = self.new_call(
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
            reply = await self.ask(call, calling, timeout=DEFAULT_TIMEOUT if timeout is None else timeout)
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
        call = self.new_call(
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
        call = self.new_call(
            tool,
            args,
            idempotency_key=idempotency_key,
            tool_call_id=tool_call_id,
            principal=principal,
            meta=meta,
        )
        call = replace(call, reply_to=None)
        calls = await self.stream_for(tool)
        with self.probe.calling(
            tool=tool, call_id=call.id, calls=calls, tool_call_id=tool_call_id, parent=parent
        ) as calling:
            fields = self._encoded(call, calling)
            try:
                if call.idem is not None:
                    return await self._once.send(call, fields, calling, timeout=DEFAULT_TIMEOUT)
                calling.sent(await self._store.append(fields, timeout_ms=None, to=calling.calls))
            except StoreError as exc:
                raise unavailable(exc) from exc
        return call.id

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

    def new_call(
        self,
        tool: str,
        args: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        tool_call_id: str | None = None,
        principal: str | None = None,
        meta: Mapping[str, str] | None = None,
    ) -> ToolCall:
        """Make a call that is to be answered to us.

        Raises:
            InvalidArguments: if *args* has no names.
        """
        if not isinstance(args, Mapping | None):
            message = f"the arguments of {tool} must be a mapping of names to values, not {type(args).__name__}"
            raise InvalidArguments(Failed("invalid_arguments", message))
        return ToolCall(
            new_call_id(),
            tool,
            dict(args or {}),
            reply_to=self._store.reply_to,
            idem=idempotency_key,
            tool_call_id=tool_call_id,
            principal=principal,
            meta=dict(meta or {}),
        )

    async def cancel_call(self, call_id: str, *, entry_id: str = "") -> None:
        """Do what `cancel` does; with its *entry_id*, a call that is parked is settled at once."""
        if len(call_id) > MAX_ID_CHARS or not is_one_line(call_id):
            message = f"a call id has 1 to {MAX_ID_CHARS} characters, none of them a control character"
            raise InvalidArguments(Failed("malformed", message))
        try:
            await self._store.cancel(call_id, ttl_ms=_CANCEL_MS, entry_id=entry_id)
        except StoreError as exc:
            raise unavailable(exc) from exc

    async def ask(
        self,
        call: ToolCall,
        calling: Calling,
        *,
        timeout: float,  # noqa: ASYNC109 - it goes to the workers, too
        follower: CallStream | None = None,
    ) -> Reply:
        """Send *call* and give its reply, a failure too. Raises what `call` does where there is no reply.

        Cancelling this cancels the call, unless it has an idempotency key: others may wait for it as well.
        *follower* is told when the call was accepted, and of its progress.
        """
        fields, timeout_ms = self._encoded(call, calling), _milliseconds(timeout)
        future = self.replies.expect(call.id, follower.progressed if follower else None)
        sending, entry_id = Sending(), ""
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                if call.idem is not None:
                    once = self._once.expect(call, fields, future, timeout=timeout)
                    sending = once.sending
                    known = await once.append(calling)
                    _tell_accepted(follower)
                    reply = await once.reply(calling, known)
                else:
                    try:
                        entry_id = await self._store.append(fields, timeout_ms=timeout_ms, to=calling.calls)
                        calling.sent(entry_id)
                        sending.accepted = True
                        _tell_accepted(follower)
                    except StoreUnavailableError as exc:
                        if not exc.maybe_ran:
                            raise
                        # It may have been accepted, so it is not sent again: the reply will tell.
                        sending.lost = exc
                    reply = await future
        except TimeoutError:
            # The reply may be here although the answer to the append is not.
            if future.cancelled() or not future.done():
                calling.failed("no_reply")
                serving = await self._serving(call.tool) if sending.accepted else None
                raise no_reply(call, timeout, sending, serving) from sending.lost
            reply = future.result()
        except StoreError as exc:
            raise unavailable(exc) from exc
        except asyncio.CancelledError:
            if call.idem is None:
                # It may lie in the stream also where no answer to the append has come.
                left_ms = timeout_ms - int((time.monotonic() - began) * 1000)
                self._leaving.leave(call.id, ttl_ms=max(0, left_ms) + _CANCEL_MARGIN_MS, entry_id=entry_id)
            raise
        finally:
            self.replies.forget(call.id)
        reply = _settled(reply)
        calling.answered(reply)
        return reply

    async def detach(
        self,
        call: ToolCall,
        calling: Calling,
        *,
        timeout: float,  # noqa: ASYNC109 - it is the workers' only
    ) -> tuple[Remembered, asyncio.Future[Reply]]:
        """Send *call* and give at once which call it is, for it may join another, with what will be its reply.

        Ends with `replies.forget`. Raises what `send` does.
        """
        fields, timeout_ms = self._encoded(call, calling), _milliseconds(timeout)
        future = self.replies.expect(call.id)
        try:
            if call.idem is not None:
                return await self._once.detach(call, fields, calling, future, timeout=timeout)
            entry_id = await self._store.append(fields, timeout_ms=timeout_ms, to=calling.calls)
        except StoreError as exc:
            self.replies.forget(call.id)
            raise unavailable(exc) from exc
        except BaseException:
            self.replies.forget(call.id)
            raise
        calling.sent(entry_id)
        return Remembered(call.id, entry_id, None), future

    async def _serving(self, tool: str) -> int | None:
        """Count the live workers that serve *tool*; None if Redis does not say so soon."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                return await self._directory.serving(tool)
        return None

    def _encoded(self, call: ToolCall, calling: Calling) -> list[str | bytes]:
        try:
            return self._codec.encode_call(call, trace=calling.trace)
        except MalformedEntryError as exc:
            raise InvalidArguments(Failed("malformed", str(exc))) from None


def _tell_accepted(follower: CallStream | None) -> None:
    if follower is not None:
        follower.accepted()


def _milliseconds(timeout: float) -> int:
    if not 0 < timeout <= LONGEST_TIMEOUT:
        message = f"timeout must be above 0 and at most {LONGEST_TIMEOUT:g} s, not {timeout}"
        raise ValueError(message)
    return max(1, int(timeout * 1000))


def _settled(reply: Reply) -> Reply:
    """Say of a call that ran out of time that it is over: a worker answered it, and will not run it again."""
    failure = reply.failure
    if failure is None or failure.type != "deadline_exceeded" or failure.detail is not None:
        return reply
    return replace(reply, failure=replace(failure, detail={"may_still_run": False}))
