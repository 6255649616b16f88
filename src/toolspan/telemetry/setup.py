"""Starts the SDK and its exporters; and ends them within a deadline."""

from __future__ import annotations

import sys
import threading
import time
from functools import cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from toolspan.redaction import Redactor
from toolspan.settings import OtlpSettings
from toolspan.telemetry import attributes as at
from toolspan.telemetry import exporters
from toolspan.telemetry.ambient import AMBIENT
from toolspan.telemetry.events import log
from toolspan.telemetry.histograms import Histograms, JoiningReader
from toolspan.telemetry.ids import DerivedIds
from toolspan.telemetry.lean import LeanSpans
from toolspan.telemetry.lines import LINES
from toolspan.telemetry.logs import leave_stdout_alone
from toolspan.telemetry.otlp.outbox import Outbox
from toolspan.telemetry.outages import Outage
from toolspan.telemetry.probe import Probe
from toolspan.telemetry.sampling import Keeping, rule_of
from toolspan.telemetry.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader
    from opentelemetry.sdk.trace import SpanProcessor

    from toolspan.keys import Keys
    from toolspan.telemetry.sampling import Rule

T = TypeVar("T")

Service = Literal["worker", "gateway", "monitor", "operator"]

SCOPE: Final = "toolspan"
SHUTDOWN_SECONDS: Final = 5.0
_FOR_METRICS: Final = 0.4
_TURN_SECONDS: Final = 0.0005
"""For how long a loop that is busy keeps the interpreter from the thread that exports. That needs it for a moment each
time something was sent; with Python's 5 ms it falls behind, and what it could not send is sent at the end."""

"""Which part of that time is theirs, if the others need longer."""
EXPORT_SECONDS: Final = 1.0
"""How long the first export of a worker may keep it from its first read."""


class Telemetry:
    """The running telemetry of one worker, client or command; several may run beside each other in a process."""

    def __init__(
        self, probe: Probe, shutdowns: Sequence[Callable[[], Any]], of_metrics: Sequence[Callable[[], Any]] = ()
    ) -> None:
        self.probe = probe
        self._shutdowns = shutdowns
        self._of_metrics = of_metrics

    def shutdown(self, timeout: float = SHUTDOWN_SECONDS) -> bool:
        """Export what is left, for at most *timeout* seconds: a collector that hangs does not keep us.

        False if that was too short.
        """
        shutdowns, self._shutdowns = self._shutdowns, ()
        of_metrics, self._of_metrics = self._of_metrics, ()
        ends = time.monotonic() + timeout
        # The SDK's own shutdown waits for as long as its exporters try again, one provider after the other.
        under_way = _started(shutdowns)
        # Metrics come last, if the others are done in time: they tell how many of them were exported and dropped.
        _joined(under_way, ends - timeout * _FOR_METRICS)
        return _joined([*under_way, *_started(of_metrics)], ends)


def start(
    service: Service,
    *,
    keys: Keys,
    instance_id: str,
    server: tuple[str, int | None] | None = None,
    link_only: bool = False,
    capture_args: bool = False,
    redact: Redactor | None = None,
    own_process: bool = False,
) -> Telemetry:
    """Start telemetry as the standard `OTEL_*` variables say; without an endpoint, nothing is exported.

    Providers that the program has set up itself are used as they are. Otherwise we make providers of our own, for this
    *service* and *instance_id* alone. Those of a worker are also what the libraries inside its tools find, so that
    their spans land in the trace; a caller's are not: the program around it is not ours to speak for. Of a process
    that is all ours, *own_process*, we also export what it uses and what the SDK itself lost; its threads take turns
    more often. Must be called after any fork.
    """
    leave_stdout_alone()
    otlp = OtlpSettings()
    if own_process:
        otlp.watch_sdk()
    making = _Making(otlp, _resource(service, keys, instance_id), around_tools=service == "worker")
    known_meters = _set_up_by_program(metrics.get_meter_provider())
    meter_provider = known_meters or making.meters()
    tracer_provider = _set_up_by_program(trace.get_tracer_provider()) or making.tracers()
    if own_process and tracer_provider is not None:
        sys.setswitchinterval(_TURN_SECONDS)
    if own_process and meter_provider is not None:
        from toolspan.telemetry.processes import measure_process  # noqa: PLC0415

        measure_process(meter_provider)
    logger_provider = making.lent(_set_up_by_program(_logs.get_logger_provider())) or making.loggers()

    def group_meter() -> Meter | None:
        meters = known_meters or making.group_meters(_group_resource(keys))
        return meters.get_meter(SCOPE, _release()) if meters else None

    def export_metrics() -> None:
        flush = getattr(meter_provider, "force_flush", None)
        if flush is not None:
            _do([flush], EXPORT_SECONDS)

    def export_group() -> None:
        if making.of_group is not None:
            _do([making.of_group.force_flush], EXPORT_SECONDS)

    return Telemetry(
        make_probe(
            keys=keys,
            consumer=instance_id,
            server=server,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            logger_provider=logger_provider,
            ids=making.ids,
            ended=making.ended,
            rule=making.rule,
            resource=making.resource,
            histograms=making.histograms,
            group_meter=group_meter,
            export_metrics=export_metrics,
            export_group=export_group,
            link_only=link_only,
            capture_args=capture_args,
            redact=redact,
        ),
        making.shutdowns,
        making.of_metrics,
    )


class _Making:
    """Makes the providers of one `start`, each if its signal has somewhere to go; and remembers how they end."""

    def __init__(self, otlp: OtlpSettings, resource: Resource, *, around_tools: bool) -> None:
        self.resource = resource
        self.ids: DerivedIds | None = None
        self.ended: SpanProcessor | None = None
        self.rule: Rule | None = None
        self.shutdowns: list[Callable[[], Any]] = []
        self.of_metrics: list[Callable[[], Any]] = []
        self.histograms: Histograms | None = None
        self.of_group: MeterProvider | None = None
        self._meters: MeterProvider | None = None
        self._outages: dict[str, Outage] = {}
        self._otlp = otlp
        self._around_tools = around_tools

    def tracers(self) -> TracerProvider | None:
        if not self._otlp.exports("traces"):
            return None
        self.ids = DerivedIds()
        meters = self._meters
        self.ended = self._processor(meters)
        limits = SpanLimits()
        made = TracerProvider(
            resource=self.resource,
            id_generator=self.ids,
            shutdown_on_exit=False,
            meter_provider=meters,
            span_limits=limits,
        )
        made.add_span_processor(self.ended)
        if _spares_ours(limits):
            self.rule = rule_of(made.sampler)
        made.sampler = Keeping(made.sampler)
        self.shutdowns.append(partial(_end_tracers, made))
        if self._around_tools:
            AMBIENT.lend(made)
        return made

    def _processor(self, meters: MeterProvider | None) -> SpanProcessor:
        try:
            from toolspan.telemetry.otlp.outbox import made  # noqa: PLC0415

            exporter = exporters.spans(self._otlp, meters)
            self._watch(exporter, "traces")
            return made(exporter, self._otlp, meters)
        except (ImportError, AttributeError) as problem:
            # An SDK that came after us, and is not inside what it was: its own way is slower, and always works.
            log.warning("telemetry.slow", why=str(problem), meaning="spans are exported by the SDK's own exporter")
        exporter = exporters.stock_spans(self._otlp, meters)
        self._watch(exporter, "traces")
        return BatchSpanProcessor(exporter, meter_provider=meters)

    def meters(self) -> MeterProvider | None:
        otlp = self._otlp
        if not otlp.exports("metrics"):
            return None
        arguments = self._metrics_exporter(), otlp.metric_interval_ms
        if otlp.plain_histograms:
            self.histograms = Histograms(SCOPE, _release())
            made = self._provider(JoiningReader(self.histograms, *arguments), self.resource)
        else:
            made = self._provider(PeriodicExportingMetricReader(*arguments), self.resource)
        self._meters = made
        if self._around_tools:
            _offer(made, metrics.get_meter_provider(), metrics.set_meter_provider)
        return made

    def group_meters(self, resource: Resource) -> MeterProvider | None:
        otlp = self._otlp
        if self.of_group is None and otlp.exports("metrics"):
            reader = _GroupReader(self._meters, self._metrics_exporter(), otlp.metric_interval_ms)
            self.of_group = self._provider(reader, resource)
        return self.of_group

    def _metrics_exporter(self) -> MetricExporter:
        exporter = exporters.metrics(self._otlp)
        self._watch(exporter, "metrics")
        return exporter

    def _provider(self, reader: MetricReader, resource: Resource) -> MeterProvider:
        made = MeterProvider([reader], resource, shutdown_on_exit=False)
        self.of_metrics.append(made.shutdown)
        return made

    def lent(self, known: T) -> T:
        """Export lines by the provider that the program has set up, if it has."""
        if known is not None:
            LINES.lend(known)
            self.shutdowns.append(partial(LINES.take_back, known))
        return known

    def _watch(self, exporter: Any, signal: Literal["traces", "metrics", "logs"]) -> None:
        collector = self._otlp.endpoint(signal)
        self._outages.setdefault(collector, Outage(collector)).watch(exporter, signal)

    def loggers(self) -> LoggerProvider | None:
        if not self._otlp.exports("logs"):
            return None
        meters = self._meters
        exporter = exporters.logs(self._otlp, meters)
        self._watch(exporter, "logs")
        made = LoggerProvider(resource=self.resource, shutdown_on_exit=False, meter_provider=meters)
        made.add_log_record_processor(BatchLogRecordProcessor(exporter, meter_provider=meters))
        self.shutdowns.append(partial(_end_loggers, made))
        LINES.lend(made)
        if self._around_tools:
            _offer(made, _logs.get_logger_provider(), _logs.set_logger_provider)
        return made


class _GroupReader(PeriodicExportingMetricReader):
    """Exports the group's gauges. What it tells of itself is this process's, and goes to its *meters*."""

    def __init__(self, meters: MeterProvider | None, *arguments: Any) -> None:
        self._meters = meters
        super().__init__(*arguments)

    def _set_meter_provider(self, meter_provider: metrics.MeterProvider) -> None:
        super()._set_meter_provider(self._meters or meter_provider)


_MOST_ATTRIBUTES: Final = 32
"""More than any span of ours has."""


def _spares_ours(limits: SpanLimits) -> bool:
    """Tell whether all that we say on spans fits within *limits*."""
    attributes, links = limits.max_span_attributes, limits.max_links
    whole = limits.max_span_attribute_length is None
    return whole and (attributes is None or attributes >= _MOST_ATTRIBUTES) and (links is None or links > 1)


def make_probe(
    *,
    keys: Keys,
    consumer: str,
    server: tuple[str, int | None] | None = None,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    logger_provider: _logs.LoggerProvider | None = None,
    ids: DerivedIds | None = None,
    ended: SpanProcessor | None = None,
    rule: Rule | None = None,
    resource: Resource | None = None,
    histograms: Histograms | None = None,
    group_meter: Callable[[], Meter | None] = lambda: None,
    export_metrics: Callable[[], None] = lambda: None,
    export_group: Callable[[], None] = lambda: None,
    link_only: bool = False,
    capture_args: bool = False,
    redact: Redactor | None = None,
) -> Probe:
    """Make a probe that reports to the given providers, and to none that is None."""
    release = _release()
    address = {} if server is None else {at.SERVER_ADDRESS: server[0]}
    if server is not None and server[1] is not None:
        address[at.SERVER_PORT] = server[1]  # type: ignore[assignment]
    tracer = tracer_provider.get_tracer(SCOPE, release) if tracer_provider else None
    redact = redact or Redactor()
    more: dict[str, Any] = {
        "ids": ids,
        "keys": keys,
        "consumer": consumer,
        "server": address,
        "link_only": link_only,
        "captured": redact if capture_args else None,
    }
    spans: Spans
    if isinstance(ended, Outbox) and rule and resource and consumer and not capture_args and not link_only:
        scope = InstrumentationScope(SCOPE, release)
        spans = LeanSpans(tracer, ended, rule, resource=resource, scope=scope, **more)
    else:
        spans = Spans(tracer, ended=ended, resource=resource, **more)
    return Probe(
        keys=keys,
        spans=spans,
        tracer=tracer,
        meter=meter_provider.get_meter(SCOPE, release) if meter_provider else None,
        consumer=consumer,
        logger=logger_provider.get_logger(SCOPE, release) if logger_provider else None,
        histograms=histograms,
        group_meter=group_meter,
        export_metrics=export_metrics,
        export_group=export_group,
        server=address,
        redact=redact,
    )


_PLACEHOLDERS: Final = {"ProxyTracerProvider", "_ProxyMeterProvider", "ProxyLoggerProvider"}
_offered: list[Any] = []
"""Providers of ours that OpenTelemetry keeps as those of the process, for it takes none back."""


def _set_up_by_program(provider: Any) -> Any:
    """Give the provider that the program has set up; None if it is OpenTelemetry's placeholder, or one of ours."""
    ours = provider is AMBIENT or any(provider is offered for offered in _offered)
    return None if ours or type(provider).__name__ in _PLACEHOLDERS else provider


def _offer(provider: T, known: Any, take: Callable[[T], None]) -> None:
    """Let what tools measure and log by themselves go the same way; the first worker of a process does."""
    if type(known).__name__ in _PLACEHOLDERS:
        _offered.append(provider)
        take(provider)


def _end_tracers(provider: TracerProvider) -> None:
    AMBIENT.take_back(provider)
    provider.shutdown()


def _end_loggers(provider: LoggerProvider) -> None:
    LINES.take_back(provider)
    provider.shutdown()


def _do(calls: Iterable[Callable[[], Any]], timeout: float) -> bool:
    """Do all of *calls* at once, wait for them no longer than *timeout* seconds, and tell whether all have ended."""
    return _joined(_started(calls), time.monotonic() + timeout)


def _started(calls: Iterable[Callable[[], Any]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call, name="telemetry", daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def _joined(threads: Sequence[threading.Thread], deadline: float) -> bool:
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _resource(service: Service, keys: Keys, instance_id: str) -> Resource:
    return Resource.create(
        {
            "service.name": f"toolspan-{service}",
            "service.instance.id": instance_id,
            "service.version": _release(),
            at.STREAM: keys.stream,
        }
    )


_OF_A_PROCESS: Final = ("host.", "k8s.pod.", "k8s.node.", "k8s.container.", "container.", "process.", "os.")


def _group_resource(keys: Keys) -> Resource:
    """Name the group, whoever reports it: a dead reporter's figures must not stand beside those of the next."""
    # No version either: while a fleet is rolled over, two of them take turns.
    attributes = {
        name: value
        for name, value in Resource.create({}).attributes.items()
        if not name.startswith(_OF_A_PROCESS) and name != "service.version"
    }
    return Resource(
        {
            **attributes,
            "service.name": "toolspan-monitor",
            "service.instance.id": f"{keys.prefix}:{keys.stream}",
            at.STREAM: keys.stream,
        }
    )


@cache
def _release() -> str:
    """Give our version, as it is installed."""
    return version(SCOPE)
