"""Rounds that ask Redis nothing say so, for they tell nothing of an outage."""

from __future__ import annotations

from typing import Any

from toolspan.worker.link import Link
from toolspan.worker.reaper import Reaper
from toolspan.worker.reclaimer import Reclaimer

# Whoever asks one of these fails.
NOBODY: Any = None


async def test_nothing_is_claimed_and_nobody_reaped_while_the_connection_is_young() -> None:
    link = Link()
    reclaimer = Reclaimer(
        NOBODY, NOBODY, NOBODY, neighbours=NOBODY, link=link, probe=NOBODY, lease_ms=3_600_000, max_attempts=4
    )
    reaper = Reaper(NOBODY, NOBODY, link, NOBODY, silent_ms=3_600_000, lease_ms=3_600_000)
    broken = [await reclaimer.sweep_orphans(), await reaper.sweep()]
    link.works()
    young = [await reclaimer.sweep_orphans(), await reaper.sweep()]

    assert broken == young == [False, False]
