"""What the SDK tells of its own queues and exporters, told of ours under the same names."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from opentelemetry.metrics import NoOpMeterProvider

from toolspan.telemetry.lines import kept_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.metrics import MeterProvider

log: Final = structlog.get_logger("toolspan")

_ERROR: Final = "error.type"


class QueueCounts:
    """Counts what leaves the queue for the exporter, and what is dropped in front of it."""

    def __init__(self, meters: MeterProvider | None, *, enabled: bool) -> None:
        self._meters = meters or NoOpMeterProvider()
        self._enabled = enabled

    def watch(self, size: Callable[[], int], most: int) -> None:
        """Export *size* as that of the queue, and *most* as its limit.

        Raises:
            ImportError: if the SDK has moved what it does that with.
        """
        from opentelemetry.sdk._shared_internal._processor_metrics import create_processor_metrics  # noqa: PLC0415
        from opentelemetry.semconv._incubating.attributes.otel_attributes import (  # noqa: PLC0415
            OtelComponentTypeValues,
        )

        self._metrics = create_processor_metrics(
            "traces",
            OtelComponentTypeValues.BATCHING_SPAN_PROCESSOR,
            self._meters,
            capacity=most,
            enabled=self._enabled,
        )
        self._metrics.register_queue_size(size)

    def dropped(self, count: int, why: str) -> None:
        """*count* spans will not be exported."""
        self._metrics.drop_items(count, why)

    def finished(self, count: int) -> None:
        """*count* spans are with the exporter."""
        self._metrics.finish_items(count)


class SpanCounts:
    """Counts the spans that are no spans of the SDK as started and as live, like all others.

    In plain numbers, which are told when metrics are collected: *started* by whether there is a parent and whether it
    was sampled, *below* those that hang below one of ours.
    """

    def __init__(self, meters: MeterProvider | None, *, enabled: bool) -> None:
        """Raises ImportError if the conventions have moved what they have these by."""
        from opentelemetry.semconv._incubating.metrics import otel_metrics  # noqa: PLC0415

        meter = (meters if meters and enabled else NoOpMeterProvider()).get_meter("opentelemetry-sdk")
        self.started = [0, 0, 0, 0]
        self.below = 0
        self.live = 0
        self._started = otel_metrics.create_otel_sdk_span_started(meter)
        self._live = otel_metrics.create_otel_sdk_span_live(meter)
        self._told = [0] * 6

    def tell(self) -> None:
        """Hand over what was counted since the last time."""
        now = [*self.started, self.below, self.live]
        since = [count - told for count, told in zip(now, self._told, strict=True)]
        self._told = now
        for count, (origin, result) in zip(since, _KINDS, strict=False):
            if count:
                self._started.add(count, {"otel.span.parent.origin": origin, "otel.span.sampling_result": result})
        if since[-1]:
            self._live.add(since[-1], {"otel.span.sampling_result": _SAMPLED})


_SAMPLED: Final = "RECORD_AND_SAMPLE"
_KINDS: Final = (("none", "DROP"), ("none", _SAMPLED), ("remote", "DROP"), ("remote", _SAMPLED), ("local", _SAMPLED))


@dataclass(slots=True)
class Operation:
    """How one export went, as the SDK's exporters note it."""

    error: Exception | None = None
    error_attrs: dict[str, Any] | None = None


class ExportCounts:
    """Stands in for what counts the exports of a stock exporter: knows besides that a collector may take a part."""

    def __init__(self, known: Any, collector: str) -> None:
        # None where the SDK was not asked to count.
        self._attributes: dict[str, Any] | None = getattr(known, "_standard_attrs", None)
        if self._attributes is not None:
            self._inflight, self._exported, self._duration = known._inflight, known._exported, known._duration  # noqa: SLF001
        self._collector = collector
        self._rejected = 0
        self._said = ""

    def rejected(self, count: int, why: str) -> None:
        """The collector took the request of now, but for *count* spans: they are lost. It may also have taken all."""
        self._rejected = count
        # As long as it says the same it is the same trouble.
        if (count or why) and why != self._said:
            with kept_here():
                log.warning("telemetry.rejected", signal="traces", collector=self._collector, spans=count, why=why)
        self._said = why

    @contextmanager
    def export_operation(self, num_items: int) -> Iterator[Operation]:
        """Count *num_items* as exported or failed, by what is noted meanwhile."""
        result = Operation()
        self._rejected = 0
        known = self._attributes
        if known is None:
            yield result
            return
        began = time.perf_counter()
        self._inflight.add(num_items, known)
        try:
            yield result
        finally:
            self._inflight.add(-num_items, known)
            of = {**known, _ERROR: type(result.error).__qualname__} if result.error else known
            rejected = min(self._rejected, num_items)
            self._exported.add(num_items - rejected, of)
            if rejected:
                self._exported.add(rejected, {**known, _ERROR: "rejected"})
            self._duration.record(time.perf_counter() - began, {**of, **(result.error_attrs or {})})
