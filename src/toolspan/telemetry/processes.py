"""What a process of ours uses: processor, memory, threads, files, garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry.instrumentation.system_metrics import SystemMetricsInstrumentor

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

# Not the machine's: others measure that. And no ratios, which Prometheus makes from the rest.
_MEASURED: Final[dict[str, list[str] | None]] = {
    "process.cpu.time": ["user", "system"],
    "process.memory.usage": None,
    "process.memory.virtual": None,
    "process.context_switches": ["involuntary", "voluntary"],
    "process.thread.count": None,
    "process.open_file_descriptor.count": None,
    "cpython.gc.collections": None,
    "cpython.gc.collected_objects": None,
    "cpython.gc.uncollectable_objects": None,
}


def measure_process(meters: MeterProvider) -> None:
    """Export that to *meters* from now on; does nothing where the program has done so itself."""
    instrumentor = SystemMetricsInstrumentor(config=_MEASURED)
    if not instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.instrument(meter_provider=meters)
