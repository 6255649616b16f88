"""A stack on which all is well and nobody calls, until its workers are killed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dashboards.source import signals
from dashboards.source.signals import Signal
from tests.dashboards.queries import filled_in
from tests.stack import faults
from tests.stack.process import until

if TYPE_CHECKING:
    from tests.stack.chain import Chain

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("signal", [signals.OLDEST, signals.REDIS_ERROR_RATE], ids=["waiting", "failing"])
def test_that_nothing_waits_and_nothing_fails_is_0_and_not_unknown(chain: Chain, signal: Signal) -> None:
    # A rate needs two points.
    found = until(lambda: chain.ask("query", query=filled_in(signal.query))["result"], "there is a figure", within=60)

    [series] = found
    assert series["value"][1] == "0"


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
