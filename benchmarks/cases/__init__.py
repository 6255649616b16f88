"""All cases, in the order in which they are run and told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.cases import (
    collector,
    drain,
    gateway,
    growth,
    latency,
    memory,
    peers,
    reclaim,
    scaling,
    startup,
    traced,
)

if TYPE_CHECKING:
    from benchmarks.case import Case

CASES: Final[tuple[Case, ...]] = (
    drain.CASE,
    traced.CASE,
    collector.CASE,
    peers.CASE,
    latency.CASE,
    gateway.CASE,
    growth.CASE,
    scaling.CASE,
    reclaim.CASE,
    memory.CASE,
    startup.CASE,
)
