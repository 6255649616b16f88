"""The words of the glossary as data: calls, deliveries, outcomes, replies, dead letters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, dataclass_transform, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_NS_PER_MS: Final = 1_000_000

ErrorType: TypeAlias = Literal[
    "tool_error",
    "invalid_arguments",
    "unknown_tool",
    "timeout",
    "deadline_exceeded",
    "cancelled",
    "quarantined",
    "malformed",
    "outcome_unknown",
    "reply_too_large",
    "worker_error",
]
"""How a call can fail: the closed set that replies, metrics and spans share."""

DeadLetterReason: TypeAlias = Literal[
    "malformed",
    "worker_lost",
    "max_attempts",
    "outcome_unknown",
    "reply_failed",
    "tool_failed",
]
"""Why an entry was quarantined."""

Origin: TypeAlias = Literal["first", "retry", "reclaim", "replay"]
"""How a delivery came: read for the first time, parked and due, an orphan, or a replay's first."""

DeliveryContract: TypeAlias = Literal["at_least_once", "at_most_once"]
"""What a tool promises about being run again."""

LossReason: TypeAlias = Literal["worker_lost", "lease_expired"]
"""Why a delivery became an orphan: its worker is dead, or alive but did not renew it."""

LOSSES: Final[tuple[LossReason, ...]] = get_args(LossReason)

SUSPECT_FROM: Final = 2
"""Losses from which on a call is a suspect: never two of them in one worker at once."""

OTHER_TOOL: Final = "_other"
"""Stands for every tool name that this worker does not know, wherever the number of names must be bounded."""


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(declared: type[T]) -> type[T]:
    """Make a slotted dataclass that is frozen for the type checker only: every call makes some of these.

    Freezing them at run time as well would cost six times as much for each.
    """
    return dataclass(slots=True, unsafe_hash=True)(declared)


@value
class TraceFields:
    """W3C trace context as it travels in entries: header values, or None where there is none."""

    traceparent: str | None = None
    tracestate: str | None = None
    baggage: str | None = None


NO_TRACE: Final = TraceFields()


@value
class ToolCall:
    """One request to run one tool. *deadline_ms* is unix milliseconds by Redis' clock."""

    id: str
    tool: str
    args: dict[str, Any]
    reply_to: str | None = None
    deadline_ms: int | None = None
    idem: str | None = None
    trace: TraceFields = NO_TRACE
    tool_call_id: str | None = None
    principal: str | None = None
    attempt_of: str | None = None
    replay_of: str | None = None
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewerCall:
    """A call of a protocol version that this program does not read, with what could be read of it."""

    version: int
    id: str
    tool: str | None
    reply_to: str | None
    trace: TraceFields
    idem: str | None = None
    principal: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A stream entry as Redis gave it: *fields* is name, value, name, value …, byte for byte."""

    id: str
    fields: list[bytes]


def id_order(entry_id: str) -> tuple[int, int]:
    """Give what entry ids are ordered by: as text, 10-0 would come before 9-0."""
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq or 0)


@dataclass(slots=True)
class Delivery:
    """One hand-over of an entry to this worker.

    *attempt* is the count that Redis holds for it: with the owner it is the fence. It changes when the delivery is
    started, or when a re-created group delivers the entry anew. *read_ms* is Redis' clock, *read_ns* the monotonic
    clock, both at the time of the read or claim. *ready_ms* is when this attempt could have run at the earliest.
    """

    entry_id: str
    fields: list[bytes]
    attempt: int
    origin: Origin
    read_ns: int
    read_ms: int
    ready_ms: int
    counted: bool = True
    """Whether this delivery is in *attempt*: read as new, or started. A claim alone is not."""
    losses: int = 0
    """How many attempts of the entry ended in the loss of their worker or lease."""
    history: Sequence[Attempt] = ()
    """The attempts before this one, oldest first, as far as they are on record."""
    owner: str | None = None
    """Whose orphan it was, if it was one."""
    loss: LossReason | None = None
    """Why it became one."""

    @property
    def previous(self) -> Attempt | None:
        """The attempt before this one, if any is on record."""
        return self.history[-1] if self.history else None


@value
class Attempt:
    """An element of an entry's list of attempts. Times are ms of Redis' clock; *end_ms* None: still running."""

    consumer: str
    attempt: int
    start_ms: int
    end_ms: int | None = None
    error: str | None = None

    @property
    def loss(self) -> LossReason | None:
        """How it lost its worker or its lease, if that is what ended it."""
        return self.error if self.error in LOSSES else None


@dataclass(frozen=True, slots=True)
class Lost:
    """A worker that was lost, and what its registration says of it; None where that is gone."""

    consumer: str
    host: str | None = None
    pid: str | None = None
    version: str | None = None


def origin_after(history: Sequence[Attempt]) -> Origin:
    """Tell how the attempt came that follows those of *history*. A call that was given back stays what it was."""
    for attempt in reversed(history):
        if attempt.error != "released":
            return "reclaim" if attempt.loss else "retry"
    return "first"


@value
class Succeeded:
    """The tool returned; *result* is JSON, already encoded."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The call ended without a result. *stack* never leaves the dead letters and the telemetry."""

    type: ErrorType
    message: str
    retryable: bool = False
    detail: Any = None
    stack: str | None = None


Outcome: TypeAlias = Succeeded | Failed


@value
class Timings:
    """Milliseconds spent in each phase of an attempt; None for a phase that did not happen."""

    queue: float | None = None
    admission: float | None = None
    execute: float | None = None
    settle: float | None = None


@dataclass(slots=True)
class Run:
    """What is known about the work on one delivery, as it becomes known. Times are monotonic ns; 0: not yet.

    *settling_ns* is when it was known how the call ends, *settled_ns* when its reply was encoded, to be sent at once or
    within milliseconds, behind the batch before.
    """

    delivery: Delivery
    call: ToolCall | None = None
    tool: str = OTHER_TOOL
    """A registered tool's name, or `OTHER_TOOL`: safe to count by."""
    tool_began_ns: int = 0
    tool_ended_ns: int = 0
    settling_ns: int = 0
    settled_ns: int = 0
    told: Timings | None = None
    """The phases as its reply tells them."""
    outcome: Outcome | None = None
    unsent: Outcome | None = None
    """What the tool's outcome was, where its reply could not be written and the call ends otherwise."""
    cancelled: bool = False
    """Whether we have cancelled the tool: it is somebody else's call now, is given back, or was given up."""
    given_up: bool = False
    """Whether nobody wants its outcome any more: unless that was known before, the call ends as cancelled."""
    expired: bool = False
    """Whether the tool was cancelled because its time was up."""
    retry: BaseException | None = None
    """What the tool has raised to ask for another attempt."""
    progressed: int = 0
    """How many progress replies were made."""
    recording: Any = None
    """What telemetry remembers about this run; nobody else looks."""

    def is_of(self, call: ToolCall) -> None:
        """Note which call it is; a replay's first delivery is known by it."""
        self.call = call
        if self.delivery.origin == "first" and call.replay_of is not None:
            self.delivery.origin = "replay"

    def replies(self, now_ns: int) -> None:
        """Note that its reply is encoded now, and what that tells of the phases."""
        self.settled_ns = now_ns
        self.told = self.timings

    @property
    def timings(self) -> Timings:
        """The phases that have happened so far. A tool that was left behind at the drain has not ended."""
        delivery, began_ns, ended_ns = self.delivery, self.tool_began_ns, self.tool_ended_ns
        known_ns = ended_ns or self.settling_ns
        settle = (self.settled_ns - known_ns) / _NS_PER_MS if self.settled_ns and known_ns else None
        # Two estimates of Redis' clock meet here: never less than nothing.
        queue = float(max(0, delivery.read_ms - delivery.ready_ms))
        if not began_ns:
            return Timings(queue, settle=settle)
        admission = (began_ns - delivery.read_ns) / _NS_PER_MS
        if not ended_ns:
            return Timings(queue, admission)
        return Timings(queue, admission, (ended_ns - began_ns) / _NS_PER_MS, settle)


@dataclass(frozen=True, slots=True)
class Reply:
    """An entry of a reply stream. A final reply has either *result* or *failure*."""

    call_id: str
    entry_id: str
    status: Literal["ok", "error"]
    result: Any
    failure: Failed | None
    attempt: int
    consumer: str
    timings: Timings
    traceparent: str | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace in which the reply was produced, 32 hex digits; None if it was not traced."""
        return self.traceparent[3:35] if self.traceparent else None


@dataclass(frozen=True, slots=True)
class OnceKey:
    """What a call's idempotency record is found by, and compared with: *args* is a hash, *call_id* is JSON."""

    digest: str
    call_id: str
    args: str


@dataclass(frozen=True, slots=True)
class Remembered:
    """A call that an idempotency key stands for, ours or another's; *reply* is None while it is open."""

    call_id: str
    entry_id: str
    reply: Reply | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What a running tool told of its progress: *seq* counts from 1 in each attempt, and a gap is what was left out."""

    call_id: str
    entry_id: str
    value: Any
    seq: int
    attempt: int
    consumer: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A quarantined entry: the original's fields as they were, and why it lies here. Times are unix ms."""

    id: str
    entry_id: str
    reason: str
    error_type: str
    error_message: str
    stack: str | None
    attempts: list[Attempt]
    consumer: str
    first_delivered_ms: int | None
    at_ms: int
    fingerprint: str
    traceparent: str | None
    reply: str | None
    fields: list[bytes]


@dataclass(frozen=True, slots=True)
class LetterEntry:
    """What lies among the dead letters, byte for byte: *letter* is None if it cannot be read as one of ours.

    *original* is what `dlq.raw` holds, where the entry was kept whole; *problem* says why it cannot be read.
    """

    id: str
    fields: list[bytes]
    original: list[bytes] | None
    letter: DeadLetter | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ToolInfo:
    """A tool as workers describe it to callers; *schema* is the JSON schema of its arguments."""

    name: str
    description: str
    schema: dict[str, Any]
    delivery: DeliveryContract
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class Order:
    """Who asked for something, why, and when: unix ms by Redis' clock, 0 where that is not on record."""

    who: str
    why: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Control:
    """What operators ask of the workers of a stream: tools whose calls wait, and consumers that shall finish and go."""

    paused: dict[str, Order]
    draining: dict[str, Order]


@dataclass(frozen=True, slots=True)
class GroupSnapshot:
    """What the group looks like at one moment. Ages are seconds; None where it cannot be known.

    *pending_by_attempt* tells of the second, the third, and the fourth and later attempts what the workers told last;
    the rest is in its first.
    """

    length: int | None
    pending: int | None
    parked: int | None
    undelivered: int | None
    consumers: int | None
    live_workers: int | None
    draining_workers: int | None
    """Those that were heard of and take nothing more; they are not among the live ones."""
    silent_workers: int | None
    pending_by_attempt: tuple[int, int, int, int] | None
    oldest_undelivered_age: float | None
    oldest_pending_age: float | None
    dead_letters: int | None
    oldest_dead_letter_age: float | None
