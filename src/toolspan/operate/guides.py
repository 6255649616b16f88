"""Which page of the documentation helps with a call, for whoever knows where the pages are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from toolspan.operate.explain import Life, Place

GUIDES: Final[dict[Place, str]] = {
    "waiting": "how-to/ten-questions/#are-we-keeping-up",
    "in_flight": "how-to/ten-questions/#which-worker-is-stuck",
    "parked": "how-to/write-a-tool/#errors-and-retries",
    "passed_by": "runbooks/ToolspanCallsLost/",
    "deleted": "runbooks/ToolspanCallsLost/",
    "dead_letter": "how-to/replay-dead-letters/",
}
"""A page, and maybe a place on it, for each place in which a call may be."""


def guide(docs_url: str | None, life: Life) -> str | None:
    """Give the address of the page that helps with this call; None if there is none, or nobody said where pages are."""
    page = GUIDES.get(life.place)
    return f"{docs_url.rstrip('/')}/{page}" if docs_url and page else None
