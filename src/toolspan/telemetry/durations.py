"""How long attempts took, recorded for many at once: a call for each would cost more than what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolspan.keys import Keys
    from toolspan.model import Run
    from toolspan.telemetry.histograms import Bound, Example
    from toolspan.telemetry.instruments import Instruments

_NS: Final = 1_000_000_000
_MS: Final = 1_000


class Durations:
    """The histograms of attempts that are alike: runs of one *tool* that ended in one way.

    *error* is the `error.type` of the attempt, *of_tool* that of the tool; empty without one.
    """

    def __init__(self, instruments: Instruments, keys: Keys, tool: str, error: str, of_tool: str) -> None:
        self._process = instruments.process_duration.bound(keys.calls, keys.group, tool, error)
        self._margin = instruments.lease_margin.bound()
        phases = instruments.phase_duration
        self._queue, self._admission, self._settle = (
            phases.bound(name, tool if name == "queue" else "") for name in ("queue", "admission", "settle")
        )
        self._execute = instruments.execute_duration.bound(tool, of_tool)

    def record(self, runs: Sequence[Run], examples: Mapping[int, Example], *, ended_ns: int) -> None:
        """Record *runs* that ended at *ended_ns*; *examples* are spans of theirs, by the place of the run."""
        timings = [run.told or run.timings for run in runs]
        _add(self._process, [(ended_ns - run.delivery.read_ns) / _NS for run in runs], examples)
        _add(self._queue, [None if one.queue is None else one.queue / _MS for one in timings], examples)
        _add(self._admission, [None if one.admission is None else one.admission / _MS for one in timings], examples)
        _add(self._execute, [None if one.execute is None else one.execute / _MS for one in timings], examples)
        _add(self._settle, [None if one.settle is None else one.settle / _MS for one in timings], examples)

    def record_margin(
        self, runs: Sequence[Run], examples: Mapping[int, Example], *, ended_ns: int, lease_ns: int, renewed_ns: int
    ) -> None:
        """Record how much of the lease was left when *runs* were settled; what is held was renewed at *renewed_ns*."""
        left_ns = lease_ns - ended_ns
        # Calls of max() would cost as much as all the rest.
        renewed = [read_ns if (read_ns := run.delivery.read_ns) > renewed_ns else renewed_ns for run in runs]
        margins = [(ns + left_ns) / _NS for ns in renewed]
        _add(self._margin, margins if min(margins) >= 0 else [max(0, one) for one in margins], examples)


def _add(bound: Bound, seconds: Sequence[float | None], examples: Mapping[int, Example]) -> None:
    """Record those *seconds* that are known, with *examples* of some."""
    chosen = [(one, example) for place, example in examples.items() if (one := seconds[place]) is not None]
    known = [one for one in seconds if one is not None]
    if known:
        bound(known, chosen)
