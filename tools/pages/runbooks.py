"""Every alert with what it says and a link to its page."""

from __future__ import annotations

import re

from dashboards.source.alerts import ALERTS, NOBODY, PAGE, TICKET
from tools.pages.markdown import heading, pages_of, table

INTRO = (
    "One page for each alert: what it means, what to look at in the first two minutes, how to mitigate and fix it, and "
    "how to know that it is over. Every alert links to its page and to the dashboard that shows it. "
    "[The fire drill](../fire-drill.md) says how long it takes until you hear of it."
)
KINDS = {
    PAGE: ("Pages", "Somebody is woken up."),
    TICKET: ("Tickets", "Somebody looks in working hours."),
    NOBODY: ("Watchdog", "Always fires; a dead-man service calls when it does not."),
}


def page() -> str:
    """Make the page."""
    parts = [heading("Runbooks", source="dashboards/source/alerts.py"), INTRO]
    for severity, (title, meaning) in KINDS.items():
        rows = [(f"[{a.name}]({a.name}.md)", plain(a.summary)) for a in ALERTS if a.severity == severity]
        parts += [f"## {title}", meaning, table(("alert", "says"), rows)]
    return pages_of(*parts)


def plain(summary: str) -> str:
    """The summary with words for what an alert fills in."""
    told = re.sub(r"\{\{ \$labels\.(?:\w+_)?(\w+) \}\}", r"*\1*", summary)
    return re.sub(r"\{\{ \$value[^}]*\}\}", "*n*", told)
