"""Attempts that ended with their worker or their lease: told by whoever takes the call over, each exactly once."""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from toolspan.model import origin_after
from toolspan.telemetry import attributes as at

if TYPE_CHECKING:
    from toolspan.model import LossReason, Origin, Run
    from toolspan.telemetry.events import Events
    from toolspan.telemetry.instruments import Instruments
    from toolspan.telemetry.particulars import Particulars
    from toolspan.telemetry.spans import Spans


class Losses:
    """Tells that a call was claimed when it was; and that an attempt was lost once the next step behind it is written.

    Whoever claims may die before it begins anything: the next to claim finds the same lost attempt at the end of the
    list. But only one writes the start of the attempt behind it, or the dead letter.
    """

    def __init__(
        self,
        instruments: Instruments,
        events: Events,
        spans: Spans,
        particulars: Particulars,
    ) -> None:
        self._instruments = instruments
        self._events = events
        self._spans = spans
        self._particulars = particulars

    def claimed(self, run: Run, owner: str, reason: LossReason) -> None:
        """We have the call of *owner* now; and have begun it, if it is counted."""
        told = self._events.heard(WARNING)
        self._instruments.reclaims.add(run.tool, reason)
        if told:
            self._events.emit(
                "delivery.reclaimed",
                event="toolspan.reclaim",
                level="warning",
                context=self._spans.context(run),
                attributes={**self._particulars.attributes(run), at.REASON: reason, at.OWNER: owner},
                **self._particulars.fields(run),
                owner=owner,
                reason=reason,
            )
        if run.delivery.counted:
            self._pass(run, told=told)

    def passed(self, run: Run) -> None:
        """The call was quarantined instead: its dead letter is the step behind the attempt before *run*."""
        self._pass(run, told=self._events.heard(WARNING))

    def _pass(self, run: Run, *, told: bool) -> None:
        """The step behind the attempt before *run* is written: if that was lost, it is told here and nowhere else."""
        history = run.delivery.history
        if run.delivery.loss is None or not history:
            return
        lost = history[-1]
        loss = lost.loss
        if loss is None or lost.end_ms is None:
            return
        origin = _origin_of(run)
        self._instruments.attempts.add(run.tool, origin, "lost")
        self._spans.end_lost(run, lost, loss, origin=origin)
        if told:
            self._events.emit(
                "attempt.lost",
                event="toolspan.attempt.lost",
                level="warning",
                context=self._spans.context_before(run),
                attributes={**self._particulars.attributes(run, attempt=lost), at.REASON: loss},
                **self._particulars.fields(run, attempt=lost),
                reason=loss,
            )


def _origin_of(run: Run) -> Origin:
    """Tell how the attempt before *run* had come, which was lost."""
    origin = origin_after(run.delivery.history[:-1])
    return "replay" if origin == "first" and run.call is not None and run.call.replay_of is not None else origin
