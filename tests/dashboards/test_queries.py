"""Every query parses, and asks only for what somebody exports."""

from __future__ import annotations

import pytest

from dashboards.source.foreign import FOREIGN, ON_EVERY_SERIES
from dashboards.source.objectives import WINDOWS
from dashboards.source.promql import BOARD as SCOPE
from dashboards.source.promql import label, select
from tests.dashboards.queries import Query, asked_for, of_annotations, of_panels, of_rules
from toolspan.telemetry import catalog

RECORDED = {f"toolspan:slo_burn:{window}": {"slo", "gen_ai_tool_name"} for window in WINDOWS}
PARTS = ("_bucket", "_count", "_sum")
EXPORTED = {
    **{
        metric.prometheus + part: {*map(label, metric.attributes), *({"le"} if part == "_bucket" else set())}
        for metric in catalog.METRICS
        for part in (PARTS if metric.kind == "histogram" else ("",))
    },
    **{metric.name: set(metric.labels) for metric in FOREIGN},
    **RECORDED,
}
QUERIES = [*of_panels(), *of_annotations(), *of_rules()]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_metric_of_a_query_is_exported_by_somebody(query: Query) -> None:
    metrics, _ = asked_for(query.text)

    assert metrics <= EXPORTED.keys()
    assert metrics or query.text == "vector(1)"


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_label_of_a_query_is_one_that_its_metrics_have(query: Query) -> None:
    metrics, labels = asked_for(query.text)

    assert labels <= {*ON_EVERY_SERIES, *(name for metric in metrics for name in EXPORTED[metric])}


def test_every_foreign_metric_is_used_and_says_who_exports_it() -> None:
    used = {metric for query in QUERIES for metric in asked_for(query.text)[0]}

    assert {metric.name for metric in FOREIGN} - used == set()
    assert all(metric.exporter for metric in FOREIGN)


def test_a_query_cannot_ask_for_an_attribute_that_the_metric_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"toolspan\.calls has no attribute toolspan\.phase"):
        select(catalog.CALLS, SCOPE, {"toolspan.phase": '="queue"'})


def test_a_query_that_asks_for_what_nobody_exports_is_noticed() -> None:
    metrics, labels = asked_for('sum by (made_up) (rate(toolspan_made_up_total{no_such="x"}[$__rate_interval]))')

    assert (metrics, labels) == ({"toolspan_made_up_total"}, {"made_up", "no_such"})
    assert not metrics & EXPORTED.keys()
