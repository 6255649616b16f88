"""Alerts, runbooks and promtool tests belong together, and each alert says what to do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from dashboards.source.alerts import ALERTS
from dashboards.source.build import BOARDS
from dashboards.source.objectives import objectives
from tests.dashboards.queries import ROOT, rules
from tests.support.prose import unknown_commands, unknown_panels, unknown_settings

RUNBOOKS = ROOT / "docs" / "runbooks"
TESTS = ROOT / "tests" / "rules"
HEADINGS = [
    "Meaning", "Impact", "First two minutes", "Causes, ranked", "Mitigate", "Fix", "Verify", "Escalate",
]  # fmt: skip
NAMES = {alert.name for alert in ALERTS}
by_alert = pytest.mark.parametrize("alert", [rule for rule in rules() if "alert" in rule], ids=lambda r: r["alert"])
by_name = pytest.mark.parametrize("name", sorted(NAMES))


def test_each_alert_has_a_runbook_and_a_test_and_there_are_no_others() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == NAMES
    assert {path.name.removesuffix("_test.yml") for path in TESTS.glob("*.yml")} == NAMES
    assert {rule["alert"] for rule in rules() if "alert" in rule} == NAMES


@by_alert
def test_an_alert_says_how_bad_it_is_and_where_to_look(alert: dict[str, Any]) -> None:
    told = alert["annotations"]

    assert alert["labels"]["severity"] in {"critical", "warning", "none"}
    assert told["summary"]
    assert told["runbook_url"].endswith(f"/runbooks/{alert['alert']}")
    board = re.search(r"/d/toolspan-([a-z-]+)", told["dashboard_url"])
    assert board
    assert board[1] in {board.name for board in BOARDS}


@by_alert
def test_an_alert_tells_only_of_labels_that_it_has(alert: dict[str, Any]) -> None:
    told = set(re.findall(r"\$labels\.(\w+)", " ".join(alert["annotations"].values())))
    lost = "absent_over_time" in alert["expr"] or alert["expr"] == "vector(1)" or "redis_memory" in alert["expr"]
    always = {"toolspan_stream"} if lost or "otelcol" in alert["expr"] else set()

    assert all(
        re.search(rf"by \([^)]*\b{name}\b", alert["expr"]) or "slo_burn" in alert["expr"] for name in told - always
    )


def test_pages_are_few_and_only_the_watchdog_goes_to_nobody() -> None:
    pages = [alert.name for alert in ALERTS if alert.severity == "critical"]

    assert len(pages) <= 8
    assert [alert.name for alert in ALERTS if alert.severity == "none"] == ["ToolspanWatchdog"]


@by_name
def test_a_runbook_has_every_part(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()

    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == HEADINGS
    assert all(len(part.split("\n", 1)[1].strip()) > 5 for part in page.split("\n## ")[1:])


@by_name
def test_what_a_runbook_names_exists(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text()

    assert unknown_commands(page) == []
    assert unknown_settings(page) == set()
    assert unknown_panels(page) == set()


@by_name
def test_an_alert_is_tested_to_fire_and_to_be_silent(name: str) -> None:
    cases = yaml.safe_load((TESTS / f"{name}_test.yml").read_text())["tests"]
    asked = [case["promql_expr_test"][0] for case in cases]
    fires = [bool(test["exp_samples"]) for test in asked]

    assert all(f'alertname="{name}"' in test["expr"] for test in asked)
    assert any(fires)
    assert not all(fires) or name == "ToolspanWatchdog"


def test_a_tool_with_a_promise_of_its_own_has_rules_of_its_own() -> None:
    source = {
        "answered": {"target": 99.9},
        "fast": {"target": 99, "within": 10},
        "tools": {"summarise": {"fast": {"target": 95, "within": 60}}},
    }

    made = objectives(source)

    assert [(o.slo, o.tools, o.target, o.within) for o in made] == [
        ("answered", "", 99.9, None),
        ("fast", '="summarise"', 95, 60),
        ("fast", '!~"summarise"', 99, 10),
    ]
    assert 'gen_ai_tool_name="summarise", toolspan_outcome!~"no_reply|refused", le=~"60|60.0"' in made[1].errors("1h")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"target": 100, "within": 10}, "leaves no budget"), ({"target": 99, "within": 11}, "no boundary")],
)
def test_a_promise_that_cannot_be_measured_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        objectives({"answered": {"target": 99.9}, "fast": wrong, "tools": {}})
