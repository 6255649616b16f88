"""A page whose fault is put right, from the first to the last word of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack import faults
from tests.stack.process import until

if TYPE_CHECKING:
    from tests.stack.chain import Chain

pytestmark = pytest.mark.timeout(900)


def test_no_live_workers_pages_and_clears_once_they_are_back(chain: Chain) -> None:
    faults.kill_every_worker(chain)
    chain.send_and_leave("search", query="who is there?")

    until(
        lambda: "ToolspanNoLiveWorkers" in chain.notified("firing", "page"),
        f"it pages; so far: {sorted(chain.notified('firing'))}",
        within=300,
    )
    chain.start_workers()
    until(lambda: "ToolspanNoLiveWorkers" in chain.notified("resolved", "page"), "it clears", within=300)
