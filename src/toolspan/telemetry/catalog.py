"""What we emit, as data: metrics, spans, events. Instruments, docs, dashboards are made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from toolspan.errors import ServerFullError, StoreUnavailableError
from toolspan.model import DeadLetterReason, ErrorType, Origin
from toolspan.telemetry import attributes as at

TOOL_SECONDS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84,
)  # fmt: skip
"""Buckets for tools: those of the convention for `gen_ai.execute_tool.duration`, and one more."""

MESSAGING_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300,
)  # fmt: skip
"""Buckets for messaging and phases: a superset of the convention's."""

DEAD_LETTER_REASONS: Final[tuple[DeadLetterReason, ...]] = get_args(DeadLetterReason)
ATTEMPTS_OF_PENDING: Final = ("1", "2", "3", "4+")
"""What pending calls are told apart by."""

WASTES: Final = {"deadline_exceeded": "deadline", "cancelled": "cancelled", "": "stale"}
"""Why a run was for nobody, by how its call ended; one that is no longer ours has no end of ours."""

ENDS: Final = ("ok", *get_args(ErrorType))
"""How calls end, and with them the attempts that end them."""

NO_ENDS: Final = ("retried", "released", "lost")
"""How the other attempts end."""

ORIGINS: Final[tuple[Origin, ...]] = get_args(Origin)

_OfReporter: TypeAlias = Literal["report", "retention"]
_OfWorker: TypeAlias = Literal[
    "read", "claim", "claim_due", "registered", "neighbours",
    "admit", "recall", "start", "progress", "settle", "park", "quarantine",
    "keep", "register", "renew_slots", "control", "listen", "reap", "group", "leave",
]  # fmt: skip
_OfGateway: TypeAlias = Literal["replies", "listen", "routes", "cancel"]
Step: TypeAlias = Literal[_OfWorker, _OfGateway, _OfReporter]
"""What Redis is asked for, and may fail: each is one outage."""

WORKER_STEPS: Final[tuple[Step, ...]] = (*get_args(_OfWorker), *get_args(_OfReporter))
GATEWAY_STEPS: Final[tuple[Step, ...]] = (*get_args(_OfGateway), "report")
MONITOR_STEPS: Final[tuple[Step, ...]] = get_args(_OfReporter)
"""Any process may be the one that reports; a gateway purges nothing."""

PASSING_ERRORS: Final = (StoreUnavailableError.__name__, ServerFullError.__name__)
"""Those that may come once and be over by themselves; every other one goes on until somebody mends it."""

GATEWAY_STALL_SECONDS: Final = 2.5
"""For how long a gateway's event loop may stand still: as one of the buckets of its lag, which an alert looks at."""

BORN_AT_ZERO: Final = """\
`increase()` does not see a counter that is born at 1, and a worker that crashes again and again would count nothing.
So a process creates its counters at 0 when it starts, and a worker exports them once before its first read. A worker
does, for each registered tool and `_other`: calls by every outcome, attempts that are retried, released or lost by how
they came, replays' attempts by every outcome, dead letters by every reason, reclaims, unparked calls, stale results,
wasted time; and messages sent and consumed, reaps, lost calls. A gateway does: calls sent, and those that could not be,
and replies received. All of them, monitors too: Redis' errors by each step of theirs, those that may be over by
themselves, StoreUnavailableError and ServerFullError; any other goes on until somebody mends it, and grows. Not created
are the other attempts that end a call, which is counted in `toolspan.calls` and would be forty series more a tool; and
`toolspan.replays`, for a command exports once and is gone: its count is a point, see the dashboard's query."""

Kind = Literal["counter", "histogram", "gauge"]
_SUFFIXES: Final = {"s": "_seconds"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; *buckets* are the boundaries of a histogram."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, as the OTLP receiver's `UnderscoreEscapingWithSuffixes` makes it."""
        name = self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "")
        return f"{name}_total" if self.kind == "counter" else name


SENT = Metric(
    "messaging.client.sent.messages",
    "counter",
    "{message}",
    "Messages that were sent: calls by callers, replies by workers",
    (at.OPERATION_NAME, *at.DESTINATIONS, at.ERROR_TYPE),
)
CONSUMED = Metric(
    "messaging.client.consumed.messages",
    "counter",
    "{message}",
    "Messages that were handed to us: deliveries to workers, replies to callers; with an error, if they were no such",
    (at.OPERATION_NAME, *at.DESTINATIONS, at.GROUP, at.ERROR_TYPE),
)
OPERATION_DURATION = Metric(
    "messaging.client.operation.duration",
    "histogram",
    "s",
    "How long one command to Redis took: an append, a read that returned something, a batch settled",
    (at.OPERATION_NAME, at.OPERATION_TYPE, *at.DESTINATIONS, at.ERROR_TYPE),
    MESSAGING_SECONDS,
)
PROCESS_DURATION = Metric(
    "messaging.process.duration",
    "histogram",
    "s",
    "From the moment an entry was read until it was settled, parked or quarantined",
    (at.DESTINATION, at.GROUP, at.TOOL_NAME, at.ERROR_TYPE),
    MESSAGING_SECONDS,
)
EXECUTE_DURATION = Metric(
    "gen_ai.execute_tool.duration",
    "histogram",
    "s",
    "How long the tool itself ran",
    (at.TOOL_NAME, at.ERROR_TYPE),
    TOOL_SECONDS,
)
CALLS = Metric(
    "toolspan.calls",
    "counter",
    "{call}",
    "Calls that ended, by how",
    (at.TOOL_NAME, at.OUTCOME),
)
CALL_DURATION = Metric(
    "toolspan.call.duration",
    "histogram",
    "s",
    "What the caller waited, end to end; also for calls without a reply",
    (at.TOOL_NAME, at.OUTCOME),
    MESSAGING_SECONDS,
)
PHASE_DURATION = Metric(
    "toolspan.phase.duration",
    "histogram",
    "s",
    "How long the phases of an attempt took: waiting in the queue, until the tool began, until it was settled",
    (at.PHASE, at.TOOL_NAME),
    MESSAGING_SECONDS,
)
ATTEMPTS = Metric(
    "toolspan.attempts",
    "counter",
    "{attempt}",
    "Attempts that ended, by how they came and how they ended",
    (at.TOOL_NAME, at.DELIVERY, at.OUTCOME),
)
RECLAIMS = Metric(
    "toolspan.reclaims",
    "counter",
    "{delivery}",
    "Orphans taken over from a worker that died or did not renew its lease",
    (at.TOOL_NAME, at.REASON),
)
UNPARKED = Metric("toolspan.unparked", "counter", "{delivery}", "Parked calls that were due and taken", (at.TOOL_NAME,))
REAPS = Metric("toolspan.reaps", "counter", "{consumer}", "Dead consumers deleted from the group")
STALE_RESULTS = Metric(
    "toolspan.stale_results",
    "counter",
    "{result}",
    "Results dropped because somebody else held the call by then",
    (at.TOOL_NAME,),
)
WASTED = Metric(
    "toolspan.wasted",
    "counter",
    "s",
    "How long tools ran for nobody: their call expired, was cancelled, or was somebody else's by the end",
    (at.TOOL_NAME, at.REASON),
)
LOST = Metric(
    "toolspan.lost",
    "counter",
    "{call}",
    "Calls whose body somebody deleted or trimmed while they were pending",
    (at.REASON,),
)
DEAD_LETTERS = Metric(
    "toolspan.dead_letters",
    "counter",
    "{message}",
    "Calls moved to the dead letters, by why",
    (at.TOOL_NAME, at.REASON),
)
REPLAYS = Metric(
    "toolspan.replays",
    "counter",
    "{message}",
    "Dead letters that an operator put back on the stream, or was refused to",
    (at.OUTCOME,),
)
REDIS_ERRORS = Metric(
    "toolspan.redis.errors",
    "counter",
    "{error}",
    "Commands that Redis failed, by what they were for",
    (at.ERROR_TYPE, at.ROLE),
)
INFLIGHT = Metric("toolspan.inflight", "gauge", "{call}", "Calls that this worker holds")
ROOM = Metric("toolspan.room", "gauge", "{call}", "Calls that this worker could take besides")
WAITING = Metric(
    "toolspan.waiting",
    "gauge",
    "{call}",
    "Calls that this worker holds until a limit of their tool lets them begin",
    (at.TOOL_NAME,),
)
ABANDONED = Metric("toolspan.abandoned", "gauge", "{thread}", "Threads of tools that outlived their call")
LEASE_MARGIN = Metric(
    "toolspan.lease.margin",
    "histogram",
    "s",
    "How much of its lease was left when a call was settled; near 0, others soon take calls over that still run",
    (),
    MESSAGING_SECONDS,
)
LOOP_LAG = Metric(
    "toolspan.loop.lag",
    "histogram",
    "s",
    "How much later than it should the event loop woke up: for so long, something blocked it",
    (),
    MESSAGING_SECONDS,
)
HEARTBEAT_AGE = Metric("toolspan.heartbeat.age", "gauge", "s", "How long ago Redis accepted a heartbeat of this worker")
POLL_AGE = Metric(
    "toolspan.poll.age", "gauge", "s", "How long ago Redis answered a read of this worker, or it had no room for one"
)
GROUP_UNDELIVERED = Metric(
    "toolspan.group.undelivered",
    "gauge",
    "{message}",
    "Calls that nobody was given yet",
    (at.DESTINATION, at.GROUP),
)
GROUP_PENDING = Metric(
    "toolspan.group.pending",
    "gauge",
    "{message}",
    "Calls handed to a worker and not settled yet, without the parked ones",
    (at.DESTINATION, at.GROUP),
)
GROUP_PARKED = Metric(
    "toolspan.group.parked",
    "gauge",
    "{message}",
    "Calls that wait for their next attempt",
    (at.DESTINATION, at.GROUP),
)
GROUP_CONSUMERS = Metric(
    "toolspan.group.consumers",
    "gauge",
    "{consumer}",
    "Consumers registered in the group",
    (at.DESTINATION, at.GROUP),
)
GROUP_LENGTH = Metric(
    "toolspan.group.length",
    "gauge",
    "{message}",
    "Entries of the stream",
    (at.DESTINATION, at.GROUP),
)
OLDEST_UNDELIVERED_AGE = Metric(
    "toolspan.group.oldest_undelivered.age",
    "gauge",
    "s",
    "How long the oldest call that nobody was given has waited",
)
GROUP_PENDING_BY_ATTEMPT = Metric(
    "toolspan.group.pending_by_attempt",
    "gauge",
    "{message}",
    "Calls handed to a worker and not settled yet, by attempt: the second and later ones as the workers told last",
    (at.ATTEMPT,),
)
OLDEST_PENDING_AGE = Metric(
    "toolspan.group.oldest_pending.age",
    "gauge",
    "s",
    "For how long the oldest attempt has been running; of one whose worker is silent, since its lease was renewed",
)
SNAPSHOT_AGE = Metric("toolspan.group.snapshot.age", "gauge", "s", "How long ago the gauges of the group were measured")
WORKERS = Metric(
    "toolspan.workers",
    "gauge",
    "{worker}",
    "Registered workers: those that take calls, those that only finish theirs, those not heard of within a lease",
    (at.STATE,),
)
DLQ_LENGTH = Metric("toolspan.dlq.length", "gauge", "{message}", "Dead letters that lie there")
DLQ_OLDEST_AGE = Metric("toolspan.dlq.oldest.age", "gauge", "s", "How long the oldest dead letter has lain there")

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order of this page."""


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """What happened during a span, and is told on it."""

    name: str
    meaning: str
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One kind of span; *name* has the parts that vary in braces."""

    name: str
    kind: Literal["CLIENT", "PRODUCER", "CONSUMER", "INTERNAL"]
    meaning: str
    attributes: tuple[str, ...]
    events: tuple[SpanEvent, ...] = ()


RESOURCE: Final = ("service.name", "service.instance.id", "service.version", at.STREAM)
"""What everything comes with that a process exports. The instance is the consumer's name, as Redis has it."""

RESOURCE_OF_THE_LOST: Final = (*RESOURCE, "host.name", "process.pid")
"""What the spans of a lost attempt come with: its worker's, as that was registered, and not that of who tells it."""

ON_EVERY_SPAN: Final = (
    at.SYSTEM,
    at.MESSAGE_ID,
    at.CONVERSATION_ID,
    at.TOOL_CALL_ID,
    at.TOOL_NAME,
    at.SERVER_ADDRESS,
    at.SERVER_PORT,
)
_OPERATION: Final = (at.OPERATION_NAME, at.OPERATION_TYPE, at.DESTINATION)

SPANS: Final = (
    Span(
        "call {tool}",
        "CLIENT",
        "A caller, from the append to the reply in hand; links to the span that produced the reply",
        (*_OPERATION, at.ERROR_TYPE),
        (SpanEvent("reply.received", "The reply is in hand", (at.ATTEMPT, at.CLIENT_ID)),),
    ),
    Span(
        "send {stream}",
        "PRODUCER",
        "The append; its context travels in the entry. That of a replay links to the dead letter's span",
        (*_OPERATION, at.ERROR_TYPE),
    ),
    Span(
        "process {stream}",
        "CONSUMER",
        "One attempt, from the read until it is settled, parked or quarantined; links to the attempt before",
        (
            *_OPERATION,
            at.GROUP,
            at.CLIENT_ID,
            at.BODY_SIZE,
            at.ATTEMPT,
            at.DELIVERY,
            at.OUTCOME,
            *at.PHASES_ON_SPANS,
            at.ERROR_TYPE,
        ),
    ),
    Span(
        "execute_tool {tool}",
        "INTERNAL",
        "The tool itself; what its own libraries record lands below",
        (at.GEN_AI_OPERATION, at.ERROR_TYPE, at.TOOL_CALL_ARGUMENTS, at.TOOL_CALL_RESULT),
    ),
    Span(
        "send {prefix}:reply",
        "PRODUCER",
        "From the outcome until it is settled; its context travels in the reply",
        (*_OPERATION, at.DESTINATION_TEMPLATE, at.DESTINATION_TEMPORARY, at.BATCH_COUNT),
    ),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event: an OpenTelemetry log record of this name. *line* is that of the log, if there is one."""

    name: str
    line: str
    meaning: str
    attributes: tuple[str, ...] = ()


_OF_A_CALL: Final = (at.MESSAGE_ID, at.CONVERSATION_ID, at.TOOL_NAME, at.ATTEMPT, at.CLIENT_ID)
_OF_AN_EXCEPTION: Final = (*_OF_A_CALL, at.EXCEPTION_TYPE, at.EXCEPTION_MESSAGE, at.EXCEPTION_STACKTRACE)

EVENTS: Final = (
    Event(
        "toolspan.dead_letter",
        "delivery.quarantined",
        "A call was moved to the dead letters",
        (*_OF_A_CALL, at.LETTER_ID, *at.DEAD_LETTER),
    ),
    Event(
        "toolspan.reclaim",
        "delivery.reclaimed",
        "A call was taken over from a worker that went silent",
        (*_OF_A_CALL, at.REASON, at.OWNER),
    ),
    Event(
        "toolspan.attempt.lost",
        "attempt.lost",
        "An attempt ended with its worker or its lease; told by whoever takes the call over",
        (*_OF_A_CALL, at.REASON),
    ),
    Event("toolspan.reap", "consumer.reaped", "A dead consumer was deleted from the group", (at.CLIENT_ID,)),
    Event(
        "toolspan.stale_result",
        "result.refused",
        "A result was dropped: somebody else holds the call by now",
        _OF_A_CALL,
    ),
    Event(
        "toolspan.call.lost",
        "call.lost",
        "The body of a pending call was deleted or trimmed by somebody",
        (at.MESSAGE_ID, at.ATTEMPT, at.CLIENT_ID, at.REASON),
    ),
    Event("toolspan.lease.lost", "lease.lost", "A run was cancelled: its call is somebody else's by now", _OF_A_CALL),
    Event(
        "toolspan.loop.stalled",
        "loop.stalled",
        "An event loop stands still: a worker's for longer than a lease, a gateway's for longer than "
        f"{GATEWAY_STALL_SECONDS:g} s",
        (at.CLIENT_ID, at.EXCEPTION_STACKTRACE),
    ),
    Event(
        "toolspan.drain.started",
        "drain.started",
        "A worker takes nothing more and finishes what it holds",
        (at.CLIENT_ID,),
    ),
    Event("toolspan.drain.finished", "drain.finished", "A draining worker holds nothing any more", (at.CLIENT_ID,)),
    Event("toolspan.redis.down", "redis.down", "Redis began to fail a step", (at.CLIENT_ID, at.ROLE, at.ERROR_TYPE)),
    Event("toolspan.redis.up", "redis.up", "Redis does the step again", (at.CLIENT_ID, at.ROLE)),
    Event(
        "toolspan.replay",
        "dead_letter.replayed",
        "An operator put a dead letter back on the stream",
        (at.CONVERSATION_ID, at.MESSAGE_ID, at.TOOL_NAME, at.CLIENT_ID, at.LETTER_ID, "dlq.id"),
    ),
    Event(
        "toolspan.discard",
        "dead_letter.discarded",
        "An operator threw a dead letter away",
        (at.MESSAGE_ID, at.CONVERSATION_ID, at.TOOL_NAME, at.CLIENT_ID, at.LETTER_ID, "dlq.id", "dlq.reason"),
    ),
    Event("toolspan.pause", "tool.paused", "An operator has the calls of a tool wait", (at.TOOL_NAME,)),
    Event("toolspan.resume", "tool.resumed", "An operator has the calls of a tool run again", (at.TOOL_NAME,)),
    Event("toolspan.drain", "drain.asked", "An operator has asked a worker to finish and go", (at.CLIENT_ID,)),
    Event("gen_ai.execute_tool.exception", "", "A tool raised", _OF_AN_EXCEPTION),
    Event("messaging.process.exception", "", "Work on a delivery raised outside of the tool", _OF_AN_EXCEPTION),
)
