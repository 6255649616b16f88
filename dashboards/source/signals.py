"""Signals: each a named query with its unit, from the catalog. To change a query, change one line here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dashboards.source import foreign
from dashboards.source.foreign import Foreign
from dashboards.source.objectives import BAD
from dashboards.source.promql import (
    BOARD,
    GATEWAY_BOARD,
    STREAM,
    TOOL,
    TOOL_BOARD,
    WORKER_BOARD,
    count,
    label,
    largest,
    lately,
    one_of,
    quantile,
    rate,
    ratio,
    select,
    total,
)
from toolspan.telemetry import attributes as at
from toolspan.telemetry import catalog

PER_SECOND: Final = "reqps"
SHARE: Final = "percentunit"
SECONDS: Final = "s"
COUNT: Final = "short"
BYTES: Final = "bytes"
TIMES: Final = "suffix:x"
SLOTS: Final = "suffix:slots"

NO_TRAFFIC: Final = "no traffic"
UNKNOWN: Final = "unknown"
NONE_SEEN: Final = "none"


@dataclass(frozen=True, slots=True)
class Signal:
    """A query, how its series are called, and what stands there when it finds nothing."""

    query: str
    unit: str
    legend: str = ""
    exemplars: bool = False
    no_data: str = NO_TRAFFIC


def _by(attribute: str) -> str:
    return f"{{{{{label(attribute)}}}}}"


def _both(*attributes: str) -> str:
    return " ".join(_by(attribute) for attribute in attributes)


def _group(metric: catalog.Metric, legend: str, unit: str = COUNT) -> Signal:
    return Signal(largest(metric, BOARD), unit, legend, no_data=UNKNOWN)


# ── what callers see ────────────────────────────────────────────────────────────────────────────────────────────

_FAILED = {at.OUTCOME: one_of(*BAD)}
_ENDED = count(catalog.CALL_DURATION, TOOL_BOARD)

CALLS: Final = Signal(_ENDED, PER_SECOND, "calls")
LOST_TO_US: Final = Signal(
    ratio(f"({count(catalog.CALL_DURATION, TOOL_BOARD, where=_FAILED)} or 0 * {_ENDED})", _ENDED), SHARE, "failed"
)
OUTCOMES: Final = Signal(count(catalog.CALL_DURATION, TOOL_BOARD, at.OUTCOME), PER_SECOND, _by(at.OUTCOME))
TOOL_FAILURES: Final = Signal(
    rate(catalog.CALLS, TOOL_BOARD, at.TOOL_NAME, at.OUTCOME, where={at.OUTCOME: '!="ok"'}) + " > 0",
    PER_SECOND,
    _both(at.TOOL_NAME, at.OUTCOME),
    no_data="no failures",
)
BY_TOOL: Final = Signal(count(catalog.CALL_DURATION, TOOL_BOARD, at.TOOL_NAME), PER_SECOND, _by(at.TOOL_NAME))
NO_REPLY: Final = Signal(
    count(catalog.CALL_DURATION, TOOL_BOARD, at.TOOL_NAME, where={at.OUTCOME: '="no_reply"'}),
    PER_SECOND,
    _by(at.TOOL_NAME),
    no_data="every caller got a reply",
)


def end_to_end(q: float) -> Signal:
    """What callers waited."""
    return Signal(quantile(q, catalog.CALL_DURATION, TOOL_BOARD), SECONDS, f"p{q * 100:g}", exemplars=True)


END_TO_END_BY_TOOL: Final = Signal(
    quantile(0.95, catalog.CALL_DURATION, TOOL_BOARD, at.TOOL_NAME), SECONDS, _by(at.TOOL_NAME), exemplars=True
)


def burning(slo: str, window: str) -> Signal:
    """How many times too fast the budget of the worst tool burns."""
    chosen = f'{STREAM}=~"$stream", {TOOL}=~"$tool", slo="{slo}"'
    return Signal(f"max(toolspan:slo_burn:{window}{{{chosen}}})", TIMES, f"{slo}, {window}")


BUDGET: Final = Signal(
    f'max by (slo, {TOOL}) (toolspan:slo_burn:3d{{{STREAM}=~"$stream", {TOOL}=~"$tool"}})',
    TIMES,
    f"{{{{slo}}}} {{{{{TOOL}}}}}",
)

# ── what an attempt spends its time on ──────────────────────────────────────────────────────────────────────────


def waiting(q: float) -> Signal:
    """How long calls waited in the stream."""
    where = {at.PHASE: '="queue"'}
    return Signal(quantile(q, catalog.PHASE_DURATION, TOOL_BOARD, where=where), SECONDS, f"queue p{q * 100:g}", True)


def running(q: float) -> Signal:
    """How long tools ran."""
    return Signal(quantile(q, catalog.EXECUTE_DURATION, TOOL_BOARD), SECONDS, f"p{q * 100:g}", exemplars=True)


RUNNING_HEAT: Final = Signal(
    rate(catalog.EXECUTE_DURATION, TOOL_BOARD, "le", part="_bucket", of="increase"), COUNT, "{{le}}", exemplars=True
)
RUNNING_BY_TOOL: Final = Signal(
    quantile(0.95, catalog.EXECUTE_DURATION, TOOL_BOARD, at.TOOL_NAME), SECONDS, _by(at.TOOL_NAME), exemplars=True
)
TOOL_ERRORS: Final = Signal(
    count(catalog.EXECUTE_DURATION, TOOL_BOARD, at.TOOL_NAME, at.ERROR_TYPE, where={at.ERROR_TYPE: '!=""'}),
    PER_SECOND,
    _both(at.TOOL_NAME, at.ERROR_TYPE),
    no_data="no failures",
)
PHASES: Final = Signal(
    quantile(0.95, catalog.PHASE_DURATION, BOARD, at.PHASE), SECONDS, f"{_by(at.PHASE)} p95", exemplars=True
)
WASTED: Final = Signal(
    # Of the many that are 0, none: their names alone would fill the panel.
    rate(catalog.WASTED, TOOL_BOARD, at.TOOL_NAME, at.REASON) + " > 0",
    SLOTS,
    _both(at.TOOL_NAME, at.REASON),
    no_data="nothing does",
)
HELD_BACK: Final = Signal(
    total(catalog.WAITING, TOOL_BOARD, at.TOOL_NAME), COUNT, _by(at.TOOL_NAME), no_data="no limit holds anything back"
)
PROCESSING: Final = Signal(quantile(0.95, catalog.PROCESS_DURATION, TOOL_BOARD), SECONDS, "read to settled p95", True)

# ── the group ───────────────────────────────────────────────────────────────────────────────────────────────────

UNDELIVERED: Final = _group(catalog.GROUP_UNDELIVERED, "undelivered")
PENDING: Final = _group(catalog.GROUP_PENDING, "pending")
PARKED: Final = _group(catalog.GROUP_PARKED, "parked")
LENGTH: Final = _group(catalog.GROUP_LENGTH, "length")
CONSUMERS: Final = _group(catalog.GROUP_CONSUMERS, "consumers")
OLDEST: Final = Signal(
    # Where nothing waits there is no age; that nothing waits was measured.
    f"{largest(catalog.OLDEST_UNDELIVERED_AGE, BOARD)} or {largest(catalog.GROUP_UNDELIVERED, BOARD)} == 0",
    SECONDS,
    "oldest undelivered",
    no_data=UNKNOWN,
)
WORKERS: Final = Signal(largest(catalog.WORKERS, BOARD, at.STATE), COUNT, _by(at.STATE), no_data=UNKNOWN)
LIVE: Final = Signal(largest(catalog.WORKERS, BOARD, where={at.STATE: '="live"'}), COUNT, "live", no_data=UNKNOWN)

_SENT_CALLS = {at.OPERATION_NAME: '="send"', at.DESTINATION: '=~".+:stream:.+"', at.ERROR_TYPE: '=""'}
ARRIVED: Final = Signal(rate(catalog.SENT, BOARD, where=_SENT_CALLS), PER_SECOND, "arrived")
SETTLED: Final = Signal(rate(catalog.CALLS, BOARD), PER_SECOND, "settled")
DRAINED_IN: Final = Signal(
    f"{largest(catalog.GROUP_UNDELIVERED, BOARD)} / "
    f"(({rate(catalog.CALLS, BOARD)} - {rate(catalog.SENT, BOARD, where=_SENT_CALLS)}) > 0)",
    SECONDS,
    "until the backlog is gone",
    no_data="not shrinking",
)

# ── workers ─────────────────────────────────────────────────────────────────────────────────────────────────────

_HELD = total(catalog.INFLIGHT, WORKER_BOARD)
_FREE = total(catalog.ROOM, WORKER_BOARD)
BUSY: Final = Signal(f"{_HELD} / (({_HELD} + {_FREE}) > 0)", SHARE, "slots taken", no_data="no workers")
BUSY_EACH: Final = Signal(
    f"sum by (instance) ({lately(catalog.INFLIGHT, WORKER_BOARD)}) / "
    f"(sum by (instance) ({lately(catalog.INFLIGHT, WORKER_BOARD)}) + "
    f"sum by (instance) ({lately(catalog.ROOM, WORKER_BOARD)}) > 0)",
    SHARE,
    "{{instance}}",
    no_data="no workers",
)
INFLIGHT_EACH: Final = Signal(
    f"sum by (instance, service_version) ({lately(catalog.INFLIGHT, WORKER_BOARD)})",
    COUNT,
    "{{instance}}",
    no_data="no workers",
)
ROOM_EACH: Final = Signal(
    f"sum by (instance) ({lately(catalog.ROOM, WORKER_BOARD)})", COUNT, "{{instance}}", no_data="no workers"
)
ABANDONED_EACH: Final = Signal(
    f"sum by (instance) ({lately(catalog.ABANDONED, WORKER_BOARD)})", COUNT, "{{instance}}", no_data="no workers"
)
_READS = {at.OPERATION_NAME: '="receive"', at.DESTINATION: '=~".+:stream:.+"'}
READ_EACH: Final = Signal(
    f"sum by (instance) (rate({select(catalog.CONSUMED, WORKER_BOARD, _READS)}[$__rate_interval]))",
    PER_SECOND,
    "{{instance}}",
    no_data="no workers",
)
HEARD_EACH: Final = Signal(
    f"time() - max by (instance) (timestamp({select(catalog.ROOM, WORKER_BOARD)}))",
    SECONDS,
    "{{instance}}",
    no_data="no workers",
)
HEARTBEAT_EACH: Final = Signal(
    f"max by (instance) ({lately(catalog.HEARTBEAT_AGE, WORKER_BOARD)})",
    SECONDS,
    "heartbeat {{instance}}",
    no_data="no workers",
)
POLL_EACH: Final = Signal(
    f"max by (instance) ({lately(catalog.POLL_AGE, WORKER_BOARD)})", SECONDS, "read {{instance}}", no_data="no workers"
)
LEASE_LEFT: Final = Signal(quantile(0.05, catalog.LEASE_MARGIN, WORKER_BOARD), SECONDS, "left of a lease p5", True)
LOOP_LATE: Final = Signal(quantile(0.99, catalog.LOOP_LAG, WORKER_BOARD), SECONDS, "loop late p99", True)
GATEWAY_LATE: Final = Signal(
    quantile(0.99, catalog.LOOP_LAG, GATEWAY_BOARD, "instance"), SECONDS, "{{instance}}", True, no_data="no gateway"
)
OLDEST_RUN: Final = _group(catalog.OLDEST_PENDING_AGE, "oldest attempt", SECONDS)
MEASURED: Final = _group(catalog.SNAPSHOT_AGE, "measured before", SECONDS)
BY_ATTEMPT: Final = Signal(
    largest(catalog.GROUP_PENDING_BY_ATTEMPT, BOARD, at.ATTEMPT), COUNT, f"attempt {_by(at.ATTEMPT)}", no_data=UNKNOWN
)

# ── recovery ────────────────────────────────────────────────────────────────────────────────────────────────────

RECLAIMED: Final = Signal(rate(catalog.RECLAIMS, TOOL_BOARD, at.REASON), PER_SECOND, f"reclaimed: {_by(at.REASON)}")
UNPARKED: Final = Signal(rate(catalog.UNPARKED, TOOL_BOARD), PER_SECOND, "retried")
STALE: Final = Signal(rate(catalog.STALE_RESULTS, TOOL_BOARD), PER_SECOND, "stale results")
REAPED: Final = Signal(rate(catalog.REAPS, BOARD), PER_SECOND, "workers reaped")
LOST: Final = Signal(rate(catalog.LOST, BOARD, at.REASON, of="increase"), COUNT, f"lost: {_by(at.REASON)}")
LOST_ALL: Final = Signal(f"sum(increase({select(catalog.LOST, BOARD)}[$__range]))", COUNT, "lost", no_data=UNKNOWN)
ATTEMPTS: Final = Signal(
    rate(catalog.ATTEMPTS, TOOL_BOARD, at.DELIVERY, at.OUTCOME) + " > 0",
    PER_SECOND,
    _both(at.DELIVERY, at.OUTCOME),
    no_data="no attempts",
)
RECLAIM_SHARE: Final = Signal(
    ratio(rate(catalog.RECLAIMS, TOOL_BOARD), rate(catalog.ATTEMPTS, TOOL_BOARD)), SHARE, "of attempts"
)

# ── dead letters ────────────────────────────────────────────────────────────────────────────────────────────────

DEAD: Final = _group(catalog.DLQ_LENGTH, "dead letters")
OLDEST_DEAD: Final = Signal(largest(catalog.DLQ_OLDEST_AGE, BOARD), SECONDS, "oldest", no_data="no dead letters")
DYING: Final = Signal(
    rate(catalog.DEAD_LETTERS, TOOL_BOARD, at.TOOL_NAME, at.REASON, of="increase") + " > 0",
    COUNT,
    _both(at.TOOL_NAME, at.REASON),
    no_data=NONE_SEEN,
)
DIED: Final = Signal(
    f"sum by ({TOOL}, {label(at.REASON)}) (increase({select(catalog.DEAD_LETTERS, TOOL_BOARD)}[$__range])) > 0",
    COUNT,
    _both(at.TOOL_NAME, at.REASON),
    no_data=NONE_SEEN,
)
REPLAYED: Final = Signal(
    # A command exports once and is gone: its count is a point, and no rate sees it.
    f"sum by ({label(at.OUTCOME)}) ({lately(catalog.REPLAYS, BOARD)})",
    COUNT,
    _by(at.OUTCOME),
    no_data="no replays",
)
AFTER_REPLAY: Final = Signal(
    rate(catalog.ATTEMPTS, TOOL_BOARD, at.OUTCOME, where={at.DELIVERY: '="replay"'}, of="increase") + " > 0",
    COUNT,
    _by(at.OUTCOME),
    no_data="no replays",
)

# ── Redis ───────────────────────────────────────────────────────────────────────────────────────────────────────

REDIS_ERRORS: Final = Signal(
    rate(catalog.REDIS_ERRORS, BOARD, at.ROLE, at.ERROR_TYPE) + " > 0",
    PER_SECOND,
    _both(at.ROLE, at.ERROR_TYPE),
    no_data="no errors",
)
REDIS_ERROR_RATE: Final = Signal(rate(catalog.REDIS_ERRORS, BOARD), PER_SECOND, "errors", no_data="no worker reports")
REDIS_COMMANDS_TOOK: Final = Signal(
    quantile(0.95, catalog.OPERATION_DURATION, BOARD, at.OPERATION_NAME),
    SECONDS,
    f"{_by(at.OPERATION_NAME)} p95",
    exemplars=True,
)


def _redis(metric: Foreign, unit: str, legend: str) -> Signal:
    return Signal(f"max({metric.name})", unit, legend, no_data="no figures of Redis")


REDIS_UPTIME: Final = _redis(foreign.REDIS_UPTIME, SECONDS, "up for")
REDIS_USED: Final = _redis(foreign.REDIS_MEMORY_USED, BYTES, "used")
REDIS_LIMIT: Final = _redis(foreign.REDIS_MAXMEMORY, BYTES, "limit")
REDIS_CLIENTS: Final = _redis(foreign.REDIS_CLIENTS, COUNT, "connected")
REDIS_BLOCKED: Final = _redis(foreign.REDIS_BLOCKED, COUNT, "blocked, waiting")
REDIS_COMMANDS: Final = Signal(
    f"sum(rate({foreign.REDIS_COMMANDS.name}[$__rate_interval]))", PER_SECOND, "commands", no_data="no figures of Redis"
)
REDIS_REFUSED: Final = Signal(
    f"sum(increase({foreign.REDIS_REJECTED.name}[$__rate_interval]))",
    COUNT,
    "connections rejected",
    no_data="no figures of Redis",
)
REDIS_EVICTED: Final = Signal(
    f"sum(increase({foreign.REDIS_EVICTED.name}[$__rate_interval]))",
    COUNT,
    "keys evicted",
    no_data="no figures of Redis",
)

# ── telemetry ───────────────────────────────────────────────────────────────────────────────────────────────────

MONITOR_AGE: Final = Signal(
    f"time() - max(timestamp({select(catalog.GROUP_LENGTH, BOARD)}))",
    SECONDS,
    "figures of the group",
    no_data="nobody measures",
)
WORKERS_AGE: Final = Signal(
    f"time() - max(timestamp({select(catalog.ROOM, BOARD)}))",
    SECONDS,
    "figures of workers",
    no_data="no worker reports",
)
COLLECTOR_UP: Final = Signal(
    f'max({foreign.UP.name}{{job="otel-collector"}})', COUNT, "collector", no_data="no collector"
)


def _flow(metrics: tuple[Foreign, ...], by: str, kind: tuple[str, ...]) -> list[Signal]:
    return [
        Signal(
            f"sum by ({by}) (rate({metric.name}[$__rate_interval]))",
            "cps",
            f"{name} {{{{{by}}}}}",
            no_data="no collector",
        )
        for metric, name in zip(metrics, kind, strict=True)
    ]


_KINDS = ("spans", "points", "records")
ACCEPTED: Final = _flow((foreign.ACCEPTED_SPANS, foreign.ACCEPTED_POINTS, foreign.ACCEPTED_RECORDS), "receiver", _KINDS)
REFUSED: Final = _flow((foreign.REFUSED_SPANS, foreign.REFUSED_POINTS, foreign.REFUSED_RECORDS), "receiver", _KINDS)
FAILED: Final = _flow((foreign.FAILED_SPANS, foreign.FAILED_POINTS, foreign.FAILED_RECORDS), "exporter", _KINDS)
QUEUED: Final = Signal(
    f"max by (exporter, data_type) ({foreign.QUEUE_SIZE.name} / {foreign.QUEUE_CAPACITY.name})",
    SHARE,
    "{{exporter}} {{data_type}}",
    no_data="no collector",
)
# What is exported for the group as a whole is of no version.
_PROCESSES = f'last_over_time({foreign.TARGET_INFO.name}{{job=~"toolspan-.+", service_version!=""}}[1m])'
HOW_MANY_VERSIONS: Final = Signal(
    f"count(count by (service_version) ({_PROCESSES}))", COUNT, "versions", no_data=UNKNOWN
)
VERSIONS: Final = Signal(
    f"count by (job, service_version) ({_PROCESSES})",
    COUNT,
    "{{job}} {{service_version}}",
    no_data=UNKNOWN,
)
