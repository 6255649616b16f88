"""Every alert: few pages, more tickets; what nobody would act on is a panel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from dashboards.source import foreign
from dashboards.source.foreign import Foreign
from dashboards.source.objectives import BURNS, Burn
from dashboards.source.promql import (
    GATEWAY,
    STREAM,
    TOOL,
    WAITED_TOO_LONG,
    Scope,
    count,
    largest,
    lately,
    rate,
    ratio,
    select,
    total,
)
from toolspan.telemetry import attributes as at
from toolspan.telemetry import catalog

SERVICE: Final = "toolspan"
PAGE: Final = "critical"
TICKET: Final = "warning"
NOBODY: Final = "none"

S: Final = at.STREAM
NOW: Final = Scope("")
ONE, TWO, FIVE, TEN, QUARTER, HOUR = (Scope(window) for window in ("1m", "2m", "5m", "10m", "15m", "1h"))


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert; its runbook and its test have its name."""

    name: str
    severity: str
    expr: str
    summary: str
    board: str = "overview"
    wait: str = ""

    def rule(self, *, grafana: str, docs: str) -> dict[str, Any]:
        """Make the rule, with links to *grafana* and to the runbooks below *docs*."""
        # Some are of no stream; a link that chose the stream "" would lead to a dashboard that is empty.
        chosen = f"{{{{ with $labels.{STREAM} }}}}?var-stream={{{{ . }}}}{{{{ end }}}}"
        variables = chosen if self.severity != NOBODY else ""
        if TOOL in self.summary:
            variables += f"&var-tool={{{{ $labels.{TOOL} }}}}"
        return {
            "alert": self.name,
            "expr": self.expr,
            **({"for": self.wait} if self.wait else {}),
            "labels": {"severity": self.severity, "service": SERVICE},
            "annotations": {
                "summary": self.summary,
                "dashboard_url": f"{grafana}/d/toolspan-{self.board}{variables}",
                "runbook_url": f"{docs}/runbooks/{self.name}",
            },
        }


def _group(metric: catalog.Metric, where: dict[str, str] | None = None) -> str:
    return largest(metric, NOW, S, where=where)


WAITING: Final = " or ".join(
    f"{_group(metric)} > 0" for metric in (catalog.GROUP_UNDELIVERED, catalog.GROUP_PENDING, catalog.GROUP_PARKED)
)
"""Calls that somebody waits for; each figure may be unknown."""

_LIVE: Final = _group(catalog.WORKERS, {at.STATE: '="live"'})
_READ: Final = {at.OPERATION_NAME: '="receive"'}
# The gauge backs the counter up: it knows of those that no worker counted. From its least on, for it may be young.
_GROWN: Final = (
    f"{_group(catalog.DLQ_LENGTH)} - min by (toolspan_stream) (min_over_time({select(catalog.DLQ_LENGTH, NOW)}[10m]))"
)

_GATEWAYS: Final = replace(FIVE, job=GATEWAY)
_GATEWAYS_LATELY: Final = replace(TWO, job=GATEWAY)
_EACH: Final = (S, "instance")
_TICKS: Final = rate(catalog.LOOP_LAG, _GATEWAYS, *_EACH, part="_count", of="increase")
_IN_TIME: Final = rate(
    catalog.LOOP_LAG,
    _GATEWAYS,
    *_EACH,
    where={"le": f'="{catalog.GATEWAY_STALL_SECONDS:g}"'},
    part="_bucket",
    of="increase",
)
_ANY_TICKS: Final = rate(catalog.LOOP_LAG, _GATEWAYS_LATELY, *_EACH, part="_count", of="increase")

_TAKEN_OVER: Final = rate(catalog.RECLAIMS, FIVE, S)


def _failures(window: Scope) -> str:
    return rate(catalog.REDIS_ERRORS, window, S, at.ERROR_TYPE, of="increase")


def _burn(pair: Burn) -> Alert:
    return Alert(
        pair.name,
        pair.severity,
        f"toolspan:slo_burn:{pair.long} > {pair.times:g} and toolspan:slo_burn:{pair.short} > {pair.times:g}",
        f"{{{{ $labels.{TOOL} }}}}: the budget of `{{{{ $labels.slo }}}}` burns {{{{ $value | humanize }}}} times too "
        f"fast, over {pair.long}",
    )


def _any_of(metrics: Iterable[Foreign]) -> str:
    # One by one: a rate over several metrics at once has the same labels twice, which Prometheus refuses.
    return " or ".join(f"sum by (exporter, receiver) (rate({metric.name}[5m])) > 0" for metric in metrics)


DROPPED: Final = (
    foreign.FAILED_SPANS, foreign.FAILED_POINTS, foreign.FAILED_RECORDS,
    foreign.UNQUEUED_SPANS, foreign.UNQUEUED_POINTS, foreign.UNQUEUED_RECORDS,
    foreign.REFUSED_SPANS, foreign.REFUSED_POINTS, foreign.REFUSED_RECORDS,
)  # fmt: skip

_SILENT_WORKERS: Final = f"absent_over_time({select(catalog.ROOM, NOW)}[2m])"
_SILENT_REPORTER: Final = f"absent_over_time({select(catalog.GROUP_LENGTH, NOW)}[2m])"

ALERTS: Final = (
    *(_burn(pair) for pair in BURNS if pair.severity == PAGE),
    Alert(
        "ToolspanCallsLost",
        PAGE,
        f"{rate(catalog.LOST, TEN, S, at.REASON, of='increase')} > 0",
        "{{ $value | humanize }} pending calls lost their body ({{ $labels.toolspan_reason }}) and get no reply",
    ),
    Alert(
        "ToolspanNoLiveWorkers",
        PAGE,
        f"({WAITING}) unless {_LIVE} > 0",
        "No worker lives, and {{ $value }} calls wait",
        "consumers",
        "1m",
    ),
    Alert(
        "ToolspanRedisFailing",
        PAGE,
        # Still growing, for as long as it may take to be told of: a loop that stood still finds all of its commands too
        # late, once.
        f"{_failures(TWO)} > 5 and {_failures(ONE)} > 0",
        "Redis fails our commands: {{ $labels.error_type }}, {{ $value | humanize }} times in 2 minutes",
        "platform",
        "75s",
    ),
    Alert(
        "ToolspanDeadLetterBurst",
        PAGE,
        f"{rate(catalog.DEAD_LETTERS, TEN, S, of='increase')} > 20 or {_GROWN} > 20",
        "{{ $value | humanize }} calls became dead letters in 10 minutes",
        "dead-letters",
        "1m",
    ),
    Alert(
        "ToolspanTelemetryAbsent",
        PAGE,
        f"{_SILENT_WORKERS} and on () {_SILENT_REPORTER}",
        "Nothing of ours reaches Prometheus: every other alert is blind",
        "platform",
        "1m",
    ),
    Alert(
        "ToolspanWorkersStalled",
        PAGE,
        f"{_group(catalog.GROUP_UNDELIVERED)} > 0 and {total(catalog.ROOM, NOW, S)} > 0 "
        f"and {rate(catalog.CONSUMED, ONE, S, where=_READ)} == 0",
        "{{ $value }} calls wait, workers have room, and none of them reads",
        "consumers",
        "30s",
    ),
    *(_burn(pair) for pair in BURNS if pair.severity == TICKET),
    Alert(
        "ToolspanBacklogNotShrinking",
        TICKET,
        f"{_group(catalog.OLDEST_UNDELIVERED_AGE)} > 60 "
        f"and max by (toolspan_stream) (deriv({select(catalog.GROUP_UNDELIVERED, NOW)}[5m])) >= 0 "
        f"and {_group(catalog.GROUP_UNDELIVERED)} > 0",
        "The oldest undelivered call has waited {{ $value | humanizeDuration }}, and the backlog does not shrink",
        wait="5m",
    ),
    Alert(
        "ToolspanWorkerStalled",
        TICKET,
        f"(sum by (toolspan_stream, instance) (rate({select(catalog.CONSUMED, NOW, _READ)}[5m])) == 0 "
        f"and sum by (toolspan_stream, instance) ({lately(catalog.ROOM, NOW)}) > 0) "
        f"and on (toolspan_stream) {_group(catalog.GROUP_UNDELIVERED)} > 0",
        "{{ $labels.instance }} has room and calls wait, but it has read none for 5 minutes",
        "consumers",
        "2m",
    ),
    Alert(
        "ToolspanGatewayStalled",
        TICKET,
        # While it stands still it tells of nothing; a process that is gone tells no figures at all.
        f"{_TICKS} - {_IN_TIME} > 0.5 or {_ANY_TICKS} == 0",
        "The event loop of {{ $labels.instance }} stood still for longer than "
        f"{catalog.GATEWAY_STALL_SECONDS:g} s: all of its callers waited",
        "platform",
    ),
    Alert(
        "ToolspanCallerTimeouts",
        TICKET,
        ratio(
            count(catalog.CALL_DURATION, FIVE, S, at.TOOL_NAME, where={at.OUTCOME: f'="{WAITED_TOO_LONG}"'}),
            count(catalog.CALL_DURATION, FIVE, S, at.TOOL_NAME),
        )
        + " > 0.01",
        f"{{{{ $value | humanizePercentage }}}} of the callers of {{{{ $labels.{TOOL} }}}} gave up waiting",
        "tool",
        "2m",
    ),
    Alert(
        "ToolspanReplyFailures",
        TICKET,
        rate(catalog.DEAD_LETTERS, TEN, S, at.TOOL_NAME, where={at.REASON: '="reply_failed"'}, of="increase") + " > 0",
        f"{{{{ $value | humanize }}}} replies of {{{{ $labels.{TOOL} }}}} could not be written",
        "dead-letters",
    ),
    Alert(
        "ToolspanDeadLettersGrowing",
        TICKET,
        f"{rate(catalog.DEAD_LETTERS, TEN, S, at.TOOL_NAME, at.REASON, of='increase')} > 0",
        f"{{{{ $value | humanize }}}} calls of {{{{ $labels.{TOOL} }}}} became dead letters "
        "({{ $labels.toolspan_reason }})",
        "dead-letters",
    ),
    Alert(
        "ToolspanDeadLettersUncounted",
        TICKET,
        f"{_GROWN} > 0 unless {rate(catalog.DEAD_LETTERS, QUARTER, S, of='increase')} > 0",
        "Dead letters grew by {{ $value | humanize }}, and no worker of ours counted one",
        "dead-letters",
        "2m",
    ),
    Alert(
        "ToolspanDeadLettersNotDrained",
        TICKET,
        f"{_group(catalog.DLQ_OLDEST_AGE)} > 86400",
        "The oldest dead letter has lain there for {{ $value | humanizeDuration }}",
        "dead-letters",
        "15m",
    ),
    Alert(
        "ToolspanReclaimStorm",
        TICKET,
        # Where little else is run, no rate sees the attempts: theirs is a series that begins with them.
        ratio(_TAKEN_OVER, f"({rate(catalog.ATTEMPTS, FIVE, S)} > {_TAKEN_OVER} or {_TAKEN_OVER})")
        + f" > 0.05 and {rate(catalog.RECLAIMS, FIVE, S, of='increase')} > 10",
        "{{ $value | humanizePercentage }} of attempts are taken over from workers that died or were too slow",
        "consumers",
        "1m",
    ),
    Alert(
        "ToolspanPoisonLoop",
        TICKET,
        # Attempts tell of it early. Whoever counted them may be lost with that, where it is the next to die.
        " or ".join(
            f"{rate(metric, QUARTER, S, at.TOOL_NAME, where=where, of='increase')} > 2"
            for metric, where in (
                (catalog.ATTEMPTS, {at.DELIVERY: '="reclaim"', at.OUTCOME: '="lost"'}),
                (catalog.DEAD_LETTERS, {at.REASON: '="worker_lost"'}),
            )
        ),
        f"Calls of {{{{ $labels.{TOOL} }}}} outlive the workers that take them over",
        "tool",
    ),
    Alert(
        "ToolspanReapChurn",
        TICKET,
        f"{rate(catalog.REAPS, HOUR, S, of='increase')} > 20",
        "{{ $value | humanize }} dead workers were removed within an hour",
        "consumers",
    ),
    Alert(
        "ToolspanSaturated",
        TICKET,
        f"{total(catalog.INFLIGHT, NOW, S)} / "
        f"(({total(catalog.INFLIGHT, NOW, S)} + {total(catalog.ROOM, NOW, S)}) > 0) > 0.9",
        "{{ $value | humanizePercentage }} of all slots are taken",
        wait="10m",
    ),
    Alert(
        "ToolspanRedisNearlyFull",
        TICKET,
        f"max by (server_address) ({foreign.REDIS_MEMORY_USED.name}) / "
        f"(max by (server_address) ({foreign.REDIS_MAXMEMORY.name}) > 0) > 0.8",
        "Redis at {{ $labels.server_address }} uses {{ $value | humanizePercentage }} of its memory; full, it refuses",
        "platform",
        "2m",
    ),
    Alert(
        "ToolspanMonitorDown",
        TICKET,
        f"{_SILENT_REPORTER} unless on () {_SILENT_WORKERS}",
        "Workers report, but nobody measures the group: backlog, workers and dead letters are unknown",
        "platform",
        "1m",
    ),
    Alert(
        "ToolspanCollectorDropping",
        TICKET,
        _any_of(DROPPED),
        "The collector loses telemetry at {{ $labels.exporter }}{{ $labels.receiver }}",
        "platform",
        "2m",
    ),
    Alert(
        "ToolspanWatchdog",
        NOBODY,
        "vector(1)",
        "Always fires; its absence is the alarm",
        "platform",
    ),
)
