"""Every query, on a real Prometheus that the real service has filled, under load with faults."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.dashboards.queries import Query, asked_for, filled_in, of_annotations, of_panels, of_rules
from tests.stack.process import until

if TYPE_CHECKING:
    from tests.stack.chain import Chain

pytestmark = pytest.mark.timeout(900)

EMPTY_WHEN_HEALTHY = {
    # Figures that Prometheus refuses: it cannot tell of its own absence. Spans and records beside them are shown.
    "platform: What is refused or lost? (E)",
    # The tools of the demo have no limits.
    "tool: Do its limits hold it back? (A)",
}
PANELS = [*of_panels(), *of_annotations()]


@pytest.mark.parametrize("query", PANELS, ids=str)
def test_every_query_of_every_panel_finds_what_it_is_for(faulty: Chain, query: Query) -> None:
    found = faulty.course(filled_in(query.text))

    drawn = any(value != "NaN" for series in found for _, value in series["values"])
    assert drawn or str(query) in EMPTY_WHEN_HEALTHY


@pytest.mark.parametrize("query", [*PANELS, *of_rules()], ids=str)
def test_every_query_is_understood_and_names_only_labels_that_are_there(faulty: Chain, query: Query) -> None:
    faulty.ask("query", query=filled_in(query.text))
    metrics, labels = asked_for(query.text)
    there: set[str] = set()
    for metric in metrics:
        there |= set(faulty.ask("labels", **{"match[]": f'{{__name__="{metric}"}}', "start": time.time() - 3600}))

    if str(query) not in EMPTY_WHEN_HEALTHY and metrics and there:
        assert labels - {"exporter"} <= there | {"slo"}


def test_every_rule_is_evaluated_without_an_error(faulty: Chain) -> None:
    groups = faulty.ask("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert len(rules) == len(of_rules())
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def test_every_metric_of_the_catalog_that_a_panel_draws_has_series(faulty: Chain) -> None:
    there = set(faulty.ask("label/__name__/values"))
    asked = {metric for query in PANELS if str(query) not in EMPTY_WHEN_HEALTHY for metric in asked_for(query.text)[0]}

    assert asked - there == set()


def test_the_variables_of_the_boards_find_the_stream_the_tools_and_the_workers(faulty: Chain) -> None:
    streams = faulty.ask("label/toolspan_stream/values", **{"match[]": "toolspan_room"})
    tools = faulty.ask("label/gen_ai_tool_name/values", **{"match[]": "toolspan_calls_total"})
    workers = faulty.ask("label/instance/values", **{"match[]": "toolspan_room"})

    assert streams == ["tools"]
    assert {"search", "summarise", "translate", "render", "_other"} <= set(tools)
    assert len(workers) >= 2


def test_what_is_exported_for_the_group_is_no_version_of_its_own(faulty: Chain) -> None:
    [versions] = [query for query in PANELS if query.place.startswith("platform: How many versions run?")]

    assert [series["value"][1] for series in faulty.ask("query", query=filled_in(versions.text))["result"]] == ["1"]


def test_traces_and_events_reach_their_backends_through_the_collector(faulty: Chain) -> None:
    spans = until(lambda: faulty.backends.spans("call search"), "spans of callers arrive", within=60)
    assert {resource["service.name"] for resource, _ in spans} == {"toolspan-gateway"}
    assert until(lambda: faulty.backends.spans("process sg:stream:tools"), "attempts arrive", within=60)
    [(_, record), *_] = until(
        lambda: faulty.backends.records("toolspan.dead_letter"), "events of dead letters arrive", within=60
    )
    named = {attribute.key for attribute in record.attributes}
    # What the panels of Loki ask for, with dots for underscores.
    assert {"dlq.fingerprint", "dlq.reason", "dlq.error_type", "gen_ai.tool.name"} <= named
    assert record.trace_id
