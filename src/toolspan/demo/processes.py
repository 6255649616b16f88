"""The demo's processes: started as a user would start them, and ended whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final, Self

from pydantic_core import from_json

from toolspan.errors import ToolspanError
from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

_POLL_SECONDS: Final = 0.05
_END_SECONDS: Final = 10.0


class Processes:
    """Every process of ours; leaving the `with` block ends them."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        ours = ("TOOLSPAN_", "OTEL_")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(variables)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start `toolspan` with *arguments*; *name* also names its log."""
        with self._log(name).open("wb") as log:
            self._running[name] = subprocess.Popen(  # noqa: S603 - a command of ours
                [sys.executable, "-m", "toolspan", *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then ends its processes in order.
                start_new_session=True,
                preexec_fn=ends_with_us(signal.SIGTERM),  # noqa: PLW1509
            )

    async def until(self, condition: Callable[[], bool], what: str, *, within: float) -> None:
        """Wait until *condition* holds.

        Raises:
            ToolspanError: if it does not *within* so many seconds, or a process has ended; with the end of its log.
        """
        deadline = time.monotonic() + within
        while not condition():
            for name, process in self._running.items():
                if process.poll() is not None:
                    message = f"the {name} has ended while we waited until {what}: {self._last_words(name)}"
                    raise ToolspanError(message)
            if time.monotonic() > deadline:
                message = f"waited {within:g} s in vain until {what}"
                raise ToolspanError(message)
            await asyncio.sleep(_POLL_SECONDS)

    def said(self, name: str, event: str) -> dict[str, object] | None:
        """Give the first line of this event in the log of *name*."""
        for line in self._log(name).read_bytes().splitlines():
            if line.startswith(b"{"):
                told: dict[str, object] = from_json(line, allow_partial=True)
                if told.get("event") == event:
                    return told
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _END_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _last_words(self, name: str) -> str:
        return " | ".join(self._log(name).read_text().splitlines()[-5:])
