"""From a fault to whoever is called, through everything that lies between, as shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.process import until

if TYPE_CHECKING:
    from tests.stack.chain import Chain

pytestmark = pytest.mark.timeout(900)

# What the load and its faults raise within minutes.
RAISED = {
    "page": {"ToolspanCallsLost", "ToolspanDeadLetterBurst"},
    "ticket": {"ToolspanCollectorDropping"},
    "watchdog": {"ToolspanWatchdog"},
}


@pytest.mark.parametrize(("receiver", "alerts"), RAISED.items(), ids=RAISED)
def test_faults_are_told_to_whoever_they_are_for(faulty: Chain, receiver: str, alerts: set[str]) -> None:
    until(
        lambda: alerts <= faulty.notified("firing", receiver),
        f"{receiver} is told of {sorted(alerts)}; so far: {sorted(faulty.notified('firing'))}",
        within=300,
    )


def test_an_alert_leads_to_the_dashboard_of_its_stream_if_it_has_one(faulty: Chain) -> None:
    asked = {"ToolspanDeadLetterBurst", "ToolspanCollectorDropping"}
    until(lambda: asked <= faulty.notified("firing"), "both are told", within=300)

    links = {told["alert"]: told["dashboard"] for told in faulty["pager"].told()[1:]}
    assert links["ToolspanDeadLetterBurst"].endswith("/d/toolspan-dead-letters?var-stream=tools")
    assert links["ToolspanCollectorDropping"].endswith("/d/toolspan-platform")


def test_what_a_burst_explains_is_silent(faulty: Chain) -> None:
    until(lambda: "ToolspanDeadLetterBurst" in faulty.notified("firing", "page"), "the burst pages", within=300)
    alerts = faulty.alerts()

    growing = [alert for alert in alerts if alert["labels"]["alertname"] == "ToolspanDeadLettersGrowing"]
    assert growing
    assert {alert["status"]["state"] for alert in growing} == {"suppressed"}
