"""Sends a call, and waits for its reply: what every front door does with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from toolspan.errors import InvalidArguments, MalformedEntryError, StoreError, StoreUnavailableError
from toolspan.gateway.endings import Sending, no_reply, unavailable
from toolspan.identity import new_call_id
from toolspan.model import Failed, Remembered, Reply, ToolCall

if TYPE_CHECKING:
    from toolspan.codec import Codec
    from toolspan.gateway.leaving import Leaving
    from toolspan.gateway.once import OnceCalls
    from toolspan.gateway.replies import Replies
    from toolspan.gateway.streams import CallStream
    from toolspan.store import CallerStore, Directory
    from toolspan.telemetry.callers import Calling

DEFAULT_TIMEOUT: Final = 30.0
LONGEST_TIMEOUT: Final = 7 * 86_400.0
_LOOK_SECONDS: Final = 0.5
"""How long a caller whose time is up may be kept to be told why."""

_CANCEL_MARGIN_MS: Final = 10_000
"""How much longer than our own deadline: the workers' counts from the append, which may be under way still."""


class Asking:
    """The calls of one client on their way: to the stream, and back as a reply."""

    def __init__(
        self,
        store: CallerStore,
        codec: Codec,
        replies: Replies,
        once: OnceCalls,
        *,
        directory: Directory,
        leaving: Leaving,
    ) -> None:
        self._store = store
        self._codec = codec
        self._replies = replies
        self._once = once
        self._directory = directory
        self._leaving = leaving

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
        future = self._replies.expect(call.id, follower.progressed if follower else None)
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
            self._replies.forget(call.id)
        reply = _settled(reply)
        calling.answered(reply)
        return reply

    async def send(self, call: ToolCall, calling: Calling) -> str:
        """Send *call* without waiting for its reply, and give the id of the call that it is, for it may join another.

        Raises what `ToolClient.send` does.
        """
        call = replace(call, reply_to=None)
        fields = self._encoded(call, calling)
        try:
            if call.idem is not None:
                return await self._once.send(call, fields, calling, timeout=DEFAULT_TIMEOUT)
            calling.sent(await self._store.append(fields, timeout_ms=None, to=calling.calls))
        except StoreError as exc:
            raise unavailable(exc) from exc
        return call.id

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
        future = self._replies.expect(call.id)
        try:
            if call.idem is not None:
                return await self._once.detach(call, fields, calling, future, timeout=timeout)
            entry_id = await self._store.append(fields, timeout_ms=timeout_ms, to=calling.calls)
        except StoreError as exc:
            self._replies.forget(call.id)
            raise unavailable(exc) from exc
        except BaseException:
            self._replies.forget(call.id)
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
