"""The workers of a soak, each a real process: whoever ends is started again, as an orchestrator would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.proxy import Proxy
    from toolspan.settings import Settings
    from toolspan.testing import EmbeddedServer

Process = subprocess.Popen[bytes]


class Fleet:
    """A few workers; one of them comes to Redis through the *proxy*."""

    def __init__(self, server: EmbeddedServer, proxy: Proxy, settings: Settings, folder: Path, *, size: int) -> None:
        self.server = server
        self.proxy = proxy
        self.settings = settings
        self.exits: Counter[int] = Counter()
        self._folder = folder
        self._started = 0
        self.workers = [self._start(number) for number in range(size)]

    def look_after(self) -> None:
        """Start again whoever has ended."""
        for number, worker in enumerate(self.workers):
            code = worker.poll()
            if code is not None:
                self.exits[code] += 1
                self.workers[number] = self._start(number)

    def replace(self, worker: Process, number: int) -> None:
        """Send a signal that ends it, and start another in its place."""
        worker.send_signal(number)
        worker.wait()
        self.look_after()

    def end(self) -> dict[int, int]:
        """Have all drain, and give their exit codes."""
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.send_signal(signal.SIGTERM)
        return Counter(worker.wait(timeout=60) for worker in self.workers)

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()

    def _start(self, number: int) -> Process:
        self._started += 1
        url = self.proxy.url if number == 0 else self.server.url
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("TOOLSPAN_", "OTEL_"))}
        environment |= {
            "SOAK_FOLDER": str(self._folder),
            "TOOLSPAN_REDIS_URL": url,
            "TOOLSPAN_LEASE_MS": str(self.settings.lease_ms),
            "TOOLSPAN_REAP_AFTER_MS": str(self.settings.reap_after_ms),
            "TOOLSPAN_DRAIN_SECONDS": str(self.settings.drain_seconds),
        }
        command = [sys.executable, "-m", "toolspan", "worker", "--tools", "tests.soak.tools", "--name", f"w{number}"]
        with (self._folder / f"worker-{self._started}.log").open("wb") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
