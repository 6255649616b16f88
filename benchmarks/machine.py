"""Where it was measured: processor, system, and the versions of all that has a part in it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("redis", "hiredis", "uvloop", "pydantic-core", "opentelemetry-sdk", "starlette", "uvicorn", "h11")


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides how fast anything is; *load* is how many processes wanted a core in the minute before the start."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    server: str
    load: float
    versions: dict[str, str]

    @classmethod
    def this(cls, server: str) -> Machine:
        """Describe the one we run on, with the *server* that is used."""
        return cls(
            processor=_found(r"^model name\s*: (.*)$", "/proc/cpuinfo") or platform.machine(),
            cores=len(os.sched_getaffinity(0)),
            memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
            system=f"{platform.system()} {platform.release()}",
            server=server,
            load=round(os.getloadavg()[0], 1),
            versions={
                "toolspan": _commit(),
                "Python": platform.python_version(),
                **{name: version(name) for name in _PACKAGES},
            },
        )


def _found(pattern: str, path: str) -> str | None:
    match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return match[1].strip() if match else None


def _commit() -> str:
    """Name the version, and the commit where there is a checkout."""
    asked = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout.strip()
    return f"{version('toolspan')} ({told})" if told else version("toolspan")
