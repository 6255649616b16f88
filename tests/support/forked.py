"""Workers that one process forks, and starts again when they end: back within milliseconds, for all is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from toolspan.settings import Settings

_NEEDED: Final = ("cli.services", "health", "monitor.reporter", "monitor.retention", "telemetry.setup", "worker.worker")


@contextmanager
def forked_workers(
    count: int, settings: Settings, log: Path, *, tools: str = "tests.support.toolbox", log_level: str = "debug"
) -> Iterator[None]:
    """Keep *count* workers running, whatever ends them, until the block is left; what they tell goes to *log*."""
    variables = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("TOOLSPAN_", "OTEL_"))},
        **{
            f"TOOLSPAN_{field.upper()}": str(value)
            for field, value in settings
            if value != type(settings).model_fields[field].default
        },
    }
    command = [sys.executable, "-m", "tests.support.forked", str(count), tools, log_level]
    with log.open("wb") as out:
        parent = subprocess.Popen(
            command,
            env=variables,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            preexec_fn=ends_with_us(signal.SIGTERM),  # noqa: PLW1509
        )
    try:
        yield
    finally:
        parent.terminate()
        parent.wait()


def _work(number: int, tools: str, log_level: str) -> None:
    """Be a worker, as the command line starts one; does not return."""
    from toolspan.cli import signals  # noqa: PLC0415
    from toolspan.cli.main import cli  # noqa: PLC0415

    signals.install()
    cli(["worker", "--tools", tools, "--name", f"w{number}", "--log-level", log_level], prog_name="toolspan")


def _keep(count: int, tools: str, log_level: str) -> None:
    """Fork *count* workers, and another for each that ends; end with SIGTERM, and all of them at once."""
    workers: dict[int, int] = {}

    def fork(number: int) -> None:
        arm = ends_with_us(signal.SIGKILL)
        pid = os.fork()
        if pid:
            workers[pid] = number
            return
        if arm is not None:
            arm()
        try:
            _work(number, tools, log_level)
        finally:
            os._exit(1)

    def end(*_: object) -> None:
        for pid in workers:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os._exit(0)

    for name in (*(f"toolspan.{module}" for module in _NEEDED), tools):
        import_module(name)
    signal.signal(signal.SIGTERM, end)
    for number in range(count):
        fork(number)
    while True:
        ended, _ = os.wait()
        fork(workers.pop(ended))


if __name__ == "__main__":
    _keep(int(sys.argv[1]), *sys.argv[2:])
