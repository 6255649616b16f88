"""The catalog as data: every name once, well formed, and in Prometheus' words."""

from __future__ import annotations

import re

import pytest

from toolspan.telemetry import attributes as at
from toolspan.telemetry import catalog
from toolspan.telemetry.catalog import EVENTS, METRICS, ON_EVERY_SPAN, RESOURCE, SPANS

ATTRIBUTES = {
    *(value for name, value in vars(at).items() if name.isupper() and isinstance(value, str)),
    *at.PHASES_ON_SPANS,
    *at.DEAD_LETTER,
}
USED = {
    *ON_EVERY_SPAN,
    *(name for metric in METRICS for name in metric.attributes),
    *(name for span in SPANS for name in span.attributes),
    *(name for span in SPANS for event in span.events for name in event.attributes),
    *RESOURCE,
    *(name for event in EVENTS for name in event.attributes),
}
# What may be counted by: never what callers, hosts or calls can make up.
BOUNDED = {
    at.OPERATION_NAME,
    at.OPERATION_TYPE,
    at.DESTINATION,
    at.DESTINATION_TEMPLATE,
    at.GROUP,
    at.ERROR_TYPE,
    at.TOOL_NAME,
    at.OUTCOME,
    at.PHASE,
    at.DELIVERY,
    at.REASON,
    at.ROLE,
    at.STATE,
    at.ATTEMPT,
}


def test_every_name_is_there_once() -> None:
    for kind in (METRICS, SPANS, EVENTS):
        names = [one.name for one in kind]
        assert len(names) == len(set(names))
    prometheus = [metric.prometheus for metric in METRICS]
    assert len(prometheus) == len(set(prometheus))
    lines = [event.line for event in EVENTS if event.line]
    assert len(lines) == len(set(lines))


def test_every_metric_of_the_catalog_is_in_its_list() -> None:
    assert set(METRICS) == {value for value in vars(catalog).values() if isinstance(value, catalog.Metric)}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_well_formed(metric: catalog.Metric) -> None:
    assert re.fullmatch(r"(toolspan|messaging|gen_ai)(\.[a-z_]+)+", metric.name)
    assert re.fullmatch(r"s|\{[a-z]+\}", metric.unit)
    assert metric.meaning
    assert not metric.meaning.endswith(".")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert set(metric.attributes) <= BOUNDED


def test_an_attribute_has_the_name_that_attributes_py_gives_it() -> None:
    assert {name for name in USED if not name.startswith("service.")} <= ATTRIBUTES


def test_no_name_of_attributes_py_is_used_by_nobody() -> None:
    assert set() == ATTRIBUTES - USED


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (catalog.CALLS, "toolspan_calls_total"),
        (catalog.RECLAIMS, "toolspan_reclaims_total"),
        (catalog.SENT, "messaging_client_sent_messages_total"),
        (catalog.CALL_DURATION, "toolspan_call_duration_seconds"),
        (catalog.EXECUTE_DURATION, "gen_ai_execute_tool_duration_seconds"),
        (catalog.INFLIGHT, "toolspan_inflight"),
        (catalog.OLDEST_UNDELIVERED_AGE, "toolspan_group_oldest_undelivered_age_seconds"),
        (catalog.DLQ_LENGTH, "toolspan_dlq_length"),
    ],
)
def test_a_name_in_prometheus_is_that_of_its_otlp_receiver(metric: catalog.Metric, name: str) -> None:
    assert metric.prometheus == name


def test_buckets_are_those_of_the_contract() -> None:
    assert list(catalog.TOOL_SECONDS) == [round(0.01 * 2**power, 2) for power in range(15)]
    assert set(catalog.MESSAGING_SECONDS) >= {
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    }  # fmt: skip


def test_a_log_event_is_a_noun_and_a_verb() -> None:
    for event in EVENTS:
        assert re.fullmatch(r"[a-z_]+\.[a-z]+", event.line) or not event.line, event
        assert re.fullmatch(r"(toolspan|messaging|gen_ai)(\.[a-z_]+)+", event.name), event
