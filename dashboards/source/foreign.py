"""Metrics that are not ours, each with who exports it and the labels it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Foreign:
    """One metric of somebody else, by its name in Prometheus."""

    name: str
    exporter: str
    labels: tuple[str, ...] = ()


_REDIS: Final = "redis receiver of the collector"
_COLLECTOR: Final = "collector, about itself"

REDIS_UPTIME: Final = Foreign("redis_uptime_seconds_total", _REDIS)
REDIS_MEMORY_USED: Final = Foreign("redis_memory_used_bytes", _REDIS)
REDIS_MAXMEMORY: Final = Foreign("redis_maxmemory_bytes", _REDIS)
REDIS_CLIENTS: Final = Foreign("redis_clients_connected", _REDIS)
REDIS_BLOCKED: Final = Foreign("redis_clients_blocked", _REDIS)
REDIS_COMMANDS: Final = Foreign("redis_commands_processed_total", _REDIS)
REDIS_EVICTED: Final = Foreign("redis_keys_evicted_total", _REDIS)
REDIS_REJECTED: Final = Foreign("redis_connections_rejected_total", _REDIS)

ACCEPTED_SPANS: Final = Foreign("otelcol_receiver_accepted_spans", _COLLECTOR, ("receiver", "transport"))
ACCEPTED_POINTS: Final = Foreign("otelcol_receiver_accepted_metric_points", _COLLECTOR, ("receiver", "transport"))
ACCEPTED_RECORDS: Final = Foreign("otelcol_receiver_accepted_log_records", _COLLECTOR, ("receiver", "transport"))
REFUSED_SPANS: Final = Foreign("otelcol_receiver_refused_spans", _COLLECTOR, ("receiver", "transport"))
REFUSED_POINTS: Final = Foreign("otelcol_receiver_refused_metric_points", _COLLECTOR, ("receiver", "transport"))
REFUSED_RECORDS: Final = Foreign("otelcol_receiver_refused_log_records", _COLLECTOR, ("receiver", "transport"))
FAILED_SPANS: Final = Foreign("otelcol_exporter_send_failed_spans", _COLLECTOR, ("exporter",))
FAILED_POINTS: Final = Foreign("otelcol_exporter_send_failed_metric_points", _COLLECTOR, ("exporter",))
FAILED_RECORDS: Final = Foreign("otelcol_exporter_send_failed_log_records", _COLLECTOR, ("exporter",))
UNQUEUED_SPANS: Final = Foreign("otelcol_exporter_enqueue_failed_spans", _COLLECTOR, ("exporter",))
UNQUEUED_POINTS: Final = Foreign("otelcol_exporter_enqueue_failed_metric_points", _COLLECTOR, ("exporter",))
UNQUEUED_RECORDS: Final = Foreign("otelcol_exporter_enqueue_failed_log_records", _COLLECTOR, ("exporter",))
QUEUE_SIZE: Final = Foreign("otelcol_exporter_queue_size", _COLLECTOR, ("exporter", "data_type"))
QUEUE_CAPACITY: Final = Foreign("otelcol_exporter_queue_capacity", _COLLECTOR, ("exporter", "data_type"))

TARGET_INFO: Final = Foreign(
    "target_info", "Prometheus, for every resource that it receives over OTLP", ("service_version",)
)
ALERTS: Final = Foreign("ALERTS", "Prometheus, for its rules", ("alertname", "alertstate", "severity", "service"))
UP: Final = Foreign("up", "Prometheus, for each of its scrapes")

FOREIGN: Final = tuple(value for value in list(globals().values()) if isinstance(value, Foreign))
"""All of them."""

ON_EVERY_SERIES: Final = (
    "job", "instance", "toolspan_stream", "service_version", "deployment_environment_name", "server_address",
)  # fmt: skip
"""Labels that Prometheus adds: who exported it, and what `otel/prometheus/prometheus.yml` promotes."""
