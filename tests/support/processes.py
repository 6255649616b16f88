"""Real worker processes, ended by their pid."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.support import preloaded
from tests.support.eventually import eventually
from tests.support.variables import not_ours, saying

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from tests.support.forks import Process
    from tests.support.plane import Plane
    from toolspan.settings import Settings


def _started(command: list[str], variables: dict[str, str], out: BinaryIO) -> subprocess.Popen[bytes] | Process:
    if preloaded.fits(variables):
        return preloaded.start(command, environment=variables, folder=None, output=out.fileno())
    command = [sys.executable, "-m", "toolspan", *command]
    return subprocess.Popen(command, env=variables, stdout=out, stderr=out, stdin=subprocess.DEVNULL)


class WorkerProcess:
    """One `toolspan worker` with its log in a file."""

    def __init__(self, process: subprocess.Popen[bytes] | Process, log: Path) -> None:
        self._process = process
        self.log = log
        self.pid = process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            # A stopped process takes its SIGKILL all the same.
            self._process.wait()

    async def exited(self, *, within: float = 30) -> int:
        """Wait until it has ended, and give its exit code."""
        [code] = await eventually(
            lambda: () if self._process.poll() is None else (self._process.returncode,),
            because="the worker ends",
            within=within,
        )
        return int(code)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


class Workers:
    """Starts workers for one test, and ends them."""

    def __init__(self, plane: Plane, folder: Path) -> None:
        self._plane = plane
        self._folder = folder
        self._started: list[WorkerProcess] = []

    async def start(
        self, *arguments: str, name: str = "w", settings: Settings | None = None, **environment: Any
    ) -> WorkerProcess:
        """Start `toolspan worker` on the test's tools and wait until it has registered."""
        known = set(await self._plane.beating())
        worker = self.spawn(*arguments, name=name, settings=settings, **environment)
        await eventually(lambda: self._joined(known, worker), because=f"a worker registers:\n{worker.log.read_text()}")
        return worker

    def spawn(
        self, *arguments: str, name: str = "w", settings: Settings | None = None, **environment: Any
    ) -> WorkerProcess:
        """Start it without waiting."""
        log = self._folder / f"worker-{len(self._started)}.log"
        variables = {
            **not_ours(),
            **saying(settings or self._plane.settings),
            **{field: str(value) for field, value in environment.items()},
        }
        tools = [] if "--tools" in arguments else ["--tools", "tests.support.toolbox"]
        command = ["worker", *tools, "--name", name, "--log-level", "debug", *arguments]
        with log.open("wb") as out:
            process = _started(command, variables, out)
        worker = WorkerProcess(process, log)
        self._started.append(worker)
        return worker

    async def _joined(self, known: set[str], worker: WorkerProcess) -> bool:
        assert worker.alive, worker.log.read_text()
        new = set(await self._plane.beating()) - known
        # The first heartbeat comes just before the registration.
        return any([await self._plane.redis.exists(self._plane.keys.worker(name)) for name in new])

    def end(self) -> None:
        for worker in self._started:
            if worker.alive:
                worker.signal(signal.SIGCONT)
            worker.kill()

    def logs(self) -> str:
        return "\n".join(f"--- {w.log.name}\n{w.log.read_text()}" for w in self._started)
