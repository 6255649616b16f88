"""Every metric, span, event and field of a line."""

from __future__ import annotations

from tools.pages.markdown import heading, names, table
from toolspan.telemetry import catalog, lines

EXPORTED = "What workers, callers, the monitor and operators export over OTLP, to `OTEL_EXPORTER_OTLP_ENDPOINT`."
IN_PROMETHEUS = (
    "The names in Prometheus are those that its OTLP receiver makes with `UnderscoreEscapingWithSuffixes`; a "
    "histogram has `_bucket`, `_sum` and `_count` of its name."
)
HOW_THEY_ARE_COUNTED = """\
Counters and histograms are counted by us and joined to the SDK's metrics when they are exported, which costs a call
next to nothing. So views do not apply to them. A histogram has the last example of each bucket, with the trace and
span of a call whose spans are exported. Where `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE` or
`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION` ask for other histograms, or the program has set up a meter
provider of its own, they are the SDK's.

The gauges of the group, of the dead letters and of the workers are exported by one process, whichever is elected,
under `service.name` = `toolspan-monitor` and `service.instance.id` = `<prefix>:<stream>`: a worker, a monitor, or a
gateway as long as there is neither, which may not read dead letters and says nothing of their age. What cannot be
known is absent.

`toolspan worker`, `gateway` and `monitor` also export what their process uses (`process.*`, `cpython.gc.*`), and what
the SDK itself did and dropped (`otel.sdk.*`), unless `OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED` is `false`."""
WHEN_IT_FAILS = """\
No call waits for telemetry. While a collector takes nothing, queues fill up to their bounds
(`OTEL_BSP_MAX_QUEUE_SIZE`, 16384 spans unless it says otherwise, and `OTEL_BLRP_MAX_QUEUE_SIZE`) and what comes then
is dropped, and counted by `otel.sdk.processor.span.processed` and `otel.sdk.processor.log.processed` with
`error.type` = `queue_full`; the log says `telemetry.dropped`, once for each time. Spans leave by
`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, 2048 unless it says otherwise. The log says `telemetry.down` once, and
`telemetry.up` when all signals pass again. What a collector rejects of a request that it otherwise takes is counted
by `otel.sdk.exporter.span.exported` with `error.type` = `rejected`, and the log says `telemetry.rejected` with the
reason. A process that ends exports what it has for at most 5 seconds."""
WHEN_A_WORKER_IS_KILLED = """\
A worker that dies without a drain takes with it what it has counted since it last exported metrics
(`OTEL_METRIC_EXPORT_INTERVAL`, a minute unless it says otherwise), and the spans and records of its last seconds
(`OTEL_BSP_SCHEDULE_DELAY`, `OTEL_BLRP_SCHEDULE_DELAY`): counts of calls, attempts and replies, and durations. Shorter
intervals lose less. Nothing else is lost. The attempts that it was running stand in their traces, for whoever takes
over exports them in its name, at once. Claims, losses, reaps, retries, dead letters and the ends of all that it held
are counted by those who survive it; gauges of the group are read from Redis; and the exceptional steps lie there,
too."""
ON_EVENTS = (
    "Each is an OpenTelemetry log record with an event name, in the trace of its call; and a line of the log, "
    "named as here."
)

SAMPLED = """\
`OTEL_TRACES_SAMPLER` decides what is sampled, by the parent unless it says otherwise. Kept whatever it says are
attempts that end in an error of the worker or its tool, attempts after the first, claims of orphans, what was lost,
and what is quarantined without being begun. That a first attempt has failed is known at its end only: its own spans
are exported then, under the caller's span as their parent, and the reply names them as sampled. The caller's span was
not sampled and is missing, and so is what libraries recorded inside the tool. Expired and cancelled calls are no
errors. What HTTP requests want sampled is capped by `TOOLSPAN_REMOTE_SAMPLED_RATIO`. Providers that the program has
set up itself sample as they like.

The spans of an ordinary call, a first attempt that brought no more than a `traceparent`, are kept as plain values
until it has ended, and become OTLP in batches; all others are spans of OpenTelemetry's SDK. What is exported is the
same. A tool finds a span that records; what it says there, and what its libraries record below, is exported like any
other. All spans are the SDK's, and a first attempt that fails is then sampled like any other, where the program has
set up a tracer provider of its own; where `OTEL_SPAN_*` or `OTEL_ATTRIBUTE_*` variables limit the length of values,
attributes to fewer than 32 or links to fewer than 2; with `TOOLSPAN_CAPTURE_ARGS` and with `TOOLSPAN_LINK_ONLY`.
Endpoint, headers, compression, TLS, timeout and retries are as the `OTEL_EXPORTER_OTLP_*` variables say, for the
exporters are OpenTelemetry's own, over HTTP and gRPC, but for what they write. With a version of them that is not
inside what it was, the log says `telemetry.slow`, and the SDK does all of it."""
ON_LINES = (
    "Every other line that workers, gateways and monitors write is a log record without an event name, in the trace of "
    "what it is about; its `event` is the body, and its fields are attributes by their own names, but for these. What "
    "exporters say of themselves stays in the log."
)

RESOURCES = (
    f"All of it comes with the resource {', '.join(f'`{name}`' for name in catalog.RESOURCE)}: the instance is the "
    "consumer's name, as Redis has it. The spans of a lost attempt come with that of the worker that was lost, "
    f"{', '.join(f'`{name}`' for name in catalog.RESOURCE_OF_THE_LOST)}, as far as it is on record still."
)


def page() -> str:
    """Make the page."""
    metrics = [
        (f"`{m.name}`<br>`{m.prometheus}`", f"{m.kind}<br>`{m.unit}`", m.meaning, names(m.attributes))
        for m in catalog.METRICS
    ]
    spans = [(f"`{s.name}`", s.kind, s.meaning, names(s.attributes), happenings(s)) for s in catalog.SPANS]
    events = [(f"`{e.name}`", f"`{e.line}`" if e.line else "", e.meaning, names(e.attributes)) for e in catalog.EVENTS]
    return "\n".join(
        (
            heading("Telemetry", source="src/toolspan/telemetry/catalog.py and attributes.py"),
            f"{EXPORTED}\n",
            f"{RESOURCES}\n",
            "## Metrics\n",
            f"{IN_PROMETHEUS}\n",
            table(("name, in Prometheus", "kind, unit", "meaning", "attributes"), metrics),
            f"{catalog.BORN_AT_ZERO}\n",
            f"{HOW_THEY_ARE_COUNTED}\n",
            "## Spans\n",
            f"All of them have {names(catalog.ON_EVERY_SPAN)}, as far as they are known.\n",
            table(("name", "kind", "meaning", "attributes", "events"), spans),
            f"{SAMPLED}\n",
            "## Events\n",
            f"{ON_EVENTS}\n",
            table(("name", "line", "meaning", "attributes"), events),
            "## Lines\n",
            f"{ON_LINES}\n",
            table(("field", "attribute"), [(f"`{field}`", f"`{name}`") for field, name in lines.ATTRIBUTES.items()]),
            "## When telemetry fails\n",
            f"{WHEN_IT_FAILS}\n",
            "## When a worker is killed\n",
            f"{WHEN_A_WORKER_IS_KILLED}\n",
        )
    )


def happenings(span: catalog.Span) -> str:
    """What is told on a span."""
    return "; ".join(f"`{one.name}`: {one.meaning}, with {names(one.attributes)}" for one in span.events)
