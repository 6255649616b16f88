"""Programs that are measured, with all that they start, and what the kernel says of them: CPU and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from toolspan.offspring import ends_with_us

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ROOT: Final = Path(__file__).parent.parent
_PROC: Final = Path("/proc")
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGES_A_MEBIBYTE: Final = 1024 * 1024 / os.sysconf("SC_PAGE_SIZE")
_PATIENCE_SECONDS: Final = 120.0
# See proc(5); counted from what follows the name, which may have blanks in it.
_PARENT, _USER, _SYSTEM, _RESIDENT = 1, 11, 12, 21


class Failure(Exception):  # noqa: N818
    """A run has come to nothing; says why."""


class Program:
    """A process and all that it starts; *variables* come on top of our own, without what would set anything of ours."""

    def __init__(self, command: Sequence[str], variables: Mapping[str, str], *, hears: bool = False) -> None:
        self.command = command
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean_environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if hears else self._log,
            stderr=self._log,
            preexec_fn=ends_with_us(signal.SIGKILL),  # noqa: PLW1509
        )
        self.pid = self._process.pid

    def check(self) -> None:
        """Raise a `Failure` if it has ended."""
        if (code := self._process.poll()) is not None:
            raise self._failure(code)

    def line(self) -> str:
        """Wait for the next line that it writes."""
        return self._process.stdout.readline().decode().strip() if self._process.stdout else ""

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._process.terminate()
        self._process.wait(_PATIENCE_SECONDS)

    def said(self) -> str:
        """Wait for its end, and give what it has written."""
        try:
            out, _ = self._process.communicate(timeout=_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            message = f"{self.command} takes more than {_PATIENCE_SECONDS:g} s"
            raise Failure(message) from None
        if self._process.returncode:
            raise self._failure(self._process.returncode)
        return out.decode() if out else ""

    def end(self) -> None:
        """End it with all that it has started."""
        for pid in self._family() if self._process.poll() is None else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()

    def cpu_seconds(self) -> float:
        """User and system time, of all its processes and their threads."""
        return sum(int(stat[_USER]) + int(stat[_SYSTEM]) for stat in self._stats()) / _TICKS_A_SECOND

    def rss_mib(self) -> float:
        """Memory that is resident, of all its processes."""
        return sum(int(stat[_RESIDENT]) for stat in self._stats()) / _PAGES_A_MEBIBYTE

    def _stats(self) -> Iterable[list[str]]:
        return self._family().values()

    def _family(self) -> dict[int, list[str]]:
        """Give the process and its descendants, each with what the kernel says of it."""
        everybody = {int(folder.name): _stat(int(folder.name)) for folder in _PROC.iterdir() if folder.name.isdecimal()}
        family = {self.pid}
        # Children mostly have higher numbers than their parents; where numbers began anew, it takes another turn.
        while more := {pid for pid, stat in everybody.items() if stat and int(stat[_PARENT]) in family} - family:
            family |= more
        return {pid: stat for pid in family if (stat := everybody.get(pid))}

    def _failure(self, code: int) -> Failure:
        self._log.seek(0)
        return Failure(
            f"{' '.join(self.command)} ended with {code}: {self._log.read()[-2000:].decode(errors='replace')}"
        )


def cpu_seconds_of(pid: int) -> float:
    """User and system time of one process."""
    stat = _stat(pid)
    return (int(stat[_USER]) + int(stat[_SYSTEM])) / _TICKS_A_SECOND if stat else 0.0


def _stat(pid: int) -> list[str]:
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def clean_environment() -> dict[str, str]:
    """Give our variables without those that would set something of what is measured."""
    ours = ("TOOLSPAN_", "OTEL_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        # An installed package is compiled; so is what we run from a checkout, once.
        "PYTHONPYCACHEPREFIX": str(cache() / "bytecode")
    }


def cache() -> Path:
    """Where we keep what is made once, as the XDG specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolspan" / "benchmarks"
