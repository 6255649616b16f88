"""Every alert is raised by a real fault, or it is said why it cannot be."""

from __future__ import annotations

from dashboards.source.alerts import ALERTS
from tests.stack.drills import ONLY_PROMTOOL, drilled
from tools.pages.fire_drill import measured, page

NAMES = {alert.name for alert in ALERTS}


def test_every_alert_is_drilled_or_it_is_said_why_not() -> None:
    assert drilled().keys() | ONLY_PROMTOOL.keys() == NAMES
    assert drilled().keys() & ONLY_PROMTOOL.keys() == set()


def test_every_drill_was_made_as_it_is_written_and_was_heard_of() -> None:
    assert {row.alert: row.fault for row in measured()} == drilled()
    assert [row.alert for row in measured() if not row.heard_of] == []


def test_the_page_names_every_alert_once_with_its_runbook() -> None:
    assert {name: page().count(f"[{name}](runbooks/{name}.md)") for name in NAMES} == dict.fromkeys(NAMES, 1)
