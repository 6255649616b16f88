"""What operators ask of this worker: tools whose calls wait, and to finish and go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from toolspan.model import Control
    from toolspan.telemetry.probe import Probe


class Controls:
    """Keeps what the last heartbeat has heard; *drain* is called once somebody asks us to go, in the thread that hears.

    Nothing here waits: whoever begins a call looks whether its tool is among the *paused* ones.
    """

    def __init__(self, probe: Probe, *, me: str, drain: Callable[[], object]) -> None:
        self.paused: Mapping[str, int] = {}
        """Each paused tool, and since when in ms of Redis' clock."""
        self._probe = probe
        self._me = me
        self._drain = drain
        self._asked_to_go = False
        # Two threads change what is paused; whoever only looks needs no lock.
        self._changing = threading.Lock()

    def hear(self, control: Control) -> None:
        """Heed what is asked for now."""
        with self._changing:
            known, self.paused = self.paused, {tool: order.at_ms for tool, order in control.paused.items()}
        for tool in self.paused.keys() - known.keys():
            self._probe.heard_pause(tool, control.paused[tool])
        for tool in known.keys() - self.paused.keys():
            self._probe.heard_resume(tool)
        if self._me in control.draining and not self._asked_to_go:
            self._asked_to_go = True
            self._drain()

    def forget(self, tool: str) -> None:
        """Believe that *tool* is not paused any more, until the next heartbeat knows."""
        with self._changing:
            self.paused = {name: since for name, since in self.paused.items() if name != tool}
