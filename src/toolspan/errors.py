"""Every exception that Toolspan raises, in one tree.

ToolspanError
├── SettingsError                 a setting that cannot be used
├── ToolDefinitionError           a tool that cannot be registered
├── MalformedEntryError           bytes that are not a call, a reply or a dead letter
├── LeaseMismatchError            workers of one stream that disagree on the lease
├── StoreError                    Redis did not do what was asked
│   ├── StoreUnavailableError     … because it cannot be reached, or does not serve yet
│   │   ├── UntrustedServerError  … because its certificate cannot be verified
│   │   └── NotReplicatedError    … because too few replicas have confirmed it
│   ├── NotPermittedError         … because our user may not do it
│   ├── GroupMissingError         … because the consumer group is gone
│   ├── WrongTypeError            … because something else lies under our key
│   └── ServerFullError           … because it has no memory left
├── NotReplayableError            a dead letter that must not be put back
├── NotDoneError                  what an operator asked for cannot be done, or was not in time
├── RedisUnavailable              a caller could not reach Redis
├── TooLarge                      a call over a limit, refused before it was sent
├── TooSlow                       the body of a request that did not come in time
├── BacklogFull                   too many calls wait already
├── IdempotencyConflict           another call has the same key and other arguments
├── Unauthorised                  a caller of the gateway who may not do what he asks for
└── CallError                     a call that did not succeed
    ├── ToolError                 …  the tool, or what runs it, failed (.type says how)
    ├── ToolCancelled             …  somebody gave it up
    ├── InvalidArguments          …  its arguments do not fit the tool
    ├── UnknownTool               …  no worker serves the tool
    └── ToolTimeout               …  no reply in time
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolspan.model import Failed, Reply, TraceFields


class ToolspanError(Exception):
    """The base of everything we raise on purpose."""


class SettingsError(ToolspanError):
    """A setting is missing or out of bounds: change it and start again."""


class ToolDefinitionError(ToolspanError):
    """A tool cannot be registered as it is written: change its signature or its options."""


class MalformedEntryError(ToolspanError):
    """Bytes do not follow the protocol; decoding them again cannot help.

    What could still be read stands beside the reason, so that the caller can be answered and the trace goes on:
    *call_id* is empty, the others are None where nothing valid was found.
    """

    def __init__(
        self,
        reason: str,
        *,
        call_id: str = "",
        reply_to: str | None = None,
        tool: str | None = None,
        trace: TraceFields | None = None,
        idem: str | None = None,
        principal: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.call_id = call_id
        self.reply_to = reply_to
        self.tool = tool
        self.trace = trace
        self.idem = idem
        self.principal = principal


class LeaseMismatchError(ToolspanError):
    """Another live worker of this stream runs with a different lease: give all of them the same one."""


class StoreError(ToolspanError):
    """Redis refused a command; the message is its own."""


class StoreUnavailableError(StoreError):
    """Redis cannot be reached, or answers that it does not serve now.

    *maybe_ran* says whether it may have run what was asked: the answer was lost, or never came.
    """

    def __init__(self, message: str, *, maybe_ran: bool = False) -> None:
        super().__init__(message)
        self.maybe_ran = maybe_ran


class UntrustedServerError(StoreUnavailableError):
    """The server's certificate cannot be verified: name whoever signed it, or the server as its certificate does."""


class NotReplicatedError(StoreUnavailableError):
    """It was done, and too few replicas have confirmed it in time: a failover now may undo it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, maybe_ran=True)


class NotPermittedError(StoreError):
    """Our user of Redis may not do this: `toolspan acl` prints the rules for each role."""


class GroupMissingError(StoreError):
    """The stream has lost its consumer group; whoever meets this creates it again."""


class WrongTypeError(StoreError):
    """Something that is not ours lies under one of our keys: rename or delete it."""


class ServerFullError(StoreError):
    """Redis is at its memory limit: free some, or raise `maxmemory`."""


class NotReplayableError(ToolspanError):
    """A dead letter was not replayed, for the reason given: it cannot be, or must be asked for explicitly."""


class NotDoneError(ToolspanError):
    """What an operator asked for was not done, for the reason given."""


class RedisUnavailable(ToolspanError):
    """Redis could not be reached. *maybe_accepted* says whether the call may have been taken all the same."""

    def __init__(self, message: str, *, maybe_accepted: bool = False) -> None:
        super().__init__(message)
        self.maybe_accepted = maybe_accepted


class TooLarge(ToolspanError):
    """The call is over a limit of size or nesting, and was not sent."""


class TooSlow(ToolspanError):
    """The body of an HTTP request did not come in time, and nothing was sent: send it again."""


class BacklogFull(ToolspanError):
    """Too many calls wait already, so this one was not taken: try it again after *retry_after* seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyConflict(ToolspanError):
    """Another call of the tool has the same idempotency key and other arguments: give this one a key of its own."""


class Unauthorised(ToolspanError):
    """Who asks the gateway has no token that it knows, or (*known*) one that is not enough for what he asks."""

    def __init__(self, message: str, *, known: bool) -> None:
        super().__init__(message)
        self.known = known


class CallError(ToolspanError):
    """A call ended without a result. *failure* is what was answered; *reply* the whole reply, if there was one."""

    def __init__(self, failure: Failed, reply: Reply | None = None) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.reply = reply

    @property
    def type(self) -> str:
        """One of the closed set of error types of the protocol."""
        return self.failure.type

    @property
    def retryable(self) -> bool:
        """Whether the same call, sent again, may succeed."""
        return self.failure.retryable

    @property
    def detail(self) -> Any:
        """What else is known, as JSON; None if nothing."""
        return self.failure.detail


class ToolError(CallError):
    """The tool raised, timed out, or could not be run to an end; `type` says which."""


class ToolCancelled(CallError):
    """The call was cancelled before it ended."""


class InvalidArguments(CallError):
    """The arguments do not fit the tool's signature, or the call could not be decoded: change the call."""


class UnknownTool(CallError):
    """No live worker serves a tool of this name."""


class ToolTimeout(CallError):
    """No reply came before the deadline; `detail` says whether the call may still run."""
