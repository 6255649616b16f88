"""One process of the stack, with its output in a file; it does not outlive us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Process:
    """Runs *command* until it is ended."""

    def __init__(self, name: str, command: list[str], *, cwd: Path, log: Path, variables: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        ours = ("TOOLSPAN_", "OTEL_", "COLLECTOR_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | dict(variables)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
            )

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM, *, within: float = 20) -> None:
        """Signal it and wait for its end."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(within)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def check(self) -> None:
        """Fail with its last words if it has ended."""
        code = self._process.poll()
        assert code is None, f"{self.name} has ended with {code}:\n{self.tail()}"

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def told(self) -> list[dict[str, Any]]:
        """What it has written, of the lines that are JSON."""
        lines = self.log.read_bytes().splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]


def until(condition: Callable[[], Any], because: str, *, within: float, every: float = 0.2) -> Any:
    """Ask again and again until *condition* holds, and give what it gave."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within:g} s: {because}"
        time.sleep(every)
