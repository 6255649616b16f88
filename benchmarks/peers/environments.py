"""The virtual environments of those we are compared with, made once for each state of their pinned requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.processes import Failure, cache

REQUIREMENTS: Final = Path(__file__).parent / "requirements"


def python_of(peer: str) -> str:
    """Give the interpreter of the environment of *peer*; make that first, if it is not there."""
    requirements = REQUIREMENTS / f"{peer}.txt"
    key = hashlib.sha256(sys.version.encode() + requirements.read_bytes()).hexdigest()[:16]
    folder = cache() / "peers" / f"{peer}-{key}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"installing {peer}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="installing-") as installing:
            _install(requirements, Path(installing))
            # In one step, so that a folder of this name is always whole.
            Path(installing).rename(folder)
            Path(installing).mkdir()
    return str(folder / "bin" / "python")


def _install(requirements: Path, into: Path) -> None:
    python = into / "bin" / "python"
    subprocess.run([uv(), "venv", "--quiet", "--clear", "--relocatable", "--python", sys.executable, into], check=True)
    install = ["pip", "install", "--quiet", "--require-hashes", "--compile-bytecode"]
    subprocess.run([uv(), *install, "--python", python, "--requirements", requirements], check=True)


def uv() -> str:
    """Give the path of uv."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if found is None:
        message = "uv is missing; `make setup` puts it into .venv"
        raise Failure(message)
    return found
