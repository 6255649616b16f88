"""Builds what `make stack-test` runs: collector, Prometheus and Alertmanager, once for each state of their manifests.

They land outside of the checkout, in a folder that is named after everything that decides what is built. What is built
is pinned by `go.mod` and `go.sum`; the folder's path is the one line of output.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MANIFESTS = Path(__file__).parent / "stack"
PARTS = {
    # What to build, under which name (none: the names of the tools), and how.
    "collector": (".", "otelcol", ()),
    "alertmanager": ("tool", "", ()),
    # No service discovery but files and static lists: the rest is most of its size.
    "prometheus": ("tool", "", ("-tags=remove_all_sd",)),
}
PROGRAMS = ("otelcol", "prometheus", "promtool", "alertmanager", "amtool", "grammars/node_modules")
ALERTMANAGER = "github.com/prometheus/alertmanager"


def main() -> int:
    """Build what is missing and print where it is."""
    go = shutil.which("go")
    if go is None:
        print("go is missing; the parts of the stack are built with it (https://go.dev/doc/install)", file=sys.stderr)
        return 1
    version = subprocess.check_output([go, "env", "GOVERSION"], text=True).strip()
    folder = cache() / key(version)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as building:
            for part in PARTS:
                print(f"building {part} ({version})", file=sys.stderr, flush=True)
                build(go, part, Path(building))
            print("fetching grammars", file=sys.stderr, flush=True)
            grammars(Path(building) / "grammars")
            for left in Path(building).glob("alertmanager-module*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            # In one step, so that a folder of this name is always whole.
            Path(building).rename(folder)
            Path(building).mkdir()
    missing = [program for program in PROGRAMS if not (folder / program).exists()]
    if missing:
        print(f"missing in {folder}: {', '.join(missing)}; remove the folder to build it again", file=sys.stderr)
        return 1
    print(folder)
    return 0


def cache() -> Path:
    """Where builds are kept, as the XDG specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toolspan" / "stack"


def key(version: str) -> str:
    """Name a build after everything that it is made from."""
    digest = hashlib.sha256(f"{version} {PARTS}".encode())
    for path in sorted(path for path in MANIFESTS.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(MANIFESTS)} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def build(go: str, part: str, into: Path) -> None:
    """Build one part, from exactly the modules of its go.sum."""
    what, name, flags = PARTS[part]
    command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w"]
    if part == "alertmanager":
        command += [f"-modfile={with_pages(go, into / 'alertmanager-module')}"]
    command += [*flags, "-o", str(into / name), what]
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    subprocess.run(command, cwd=MANIFESTS / part, env=environment, check=True)


def grammars(into: Path) -> None:
    """Put the grammars of LogQL and TraceQL beside what we build, from exactly what package-lock.json names."""
    npm = shutil.which("npm")
    if npm is None:
        message = "npm is missing; it fetches the grammars of the query languages (Debian: npm)"
        raise SystemExit(message)
    shutil.copytree(MANIFESTS / "grammars", into)
    subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=into, check=True)


def with_pages(go: str, copy: Path) -> Path:
    """Copy Alertmanager's module, with the pages that it embeds: those are made by npm, and are not in its module.

    Gives a go.mod that builds with the copy. What is copied was checked against go.sum when it was downloaded.
    """
    here = MANIFESTS / "alertmanager"
    environment = {**os.environ, "GOFLAGS": "", "GOWORK": "off"}
    told = subprocess.check_output([go, "mod", "download", "-json", ALERTMANAGER], cwd=here, text=True, env=environment)
    shutil.copytree(json.loads(told)["Dir"], copy, copy_function=shutil.copyfile)
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    for kind in ("elm", "mantine"):
        pages = copy / "ui" / "app" / "dist" / kind
        pages.mkdir(parents=True)
        shutil.copyfile(here / "no-pages.html", pages / "index.html")
    manifest = copy.with_suffix(".mod")
    manifest.write_text(f"{(here / 'go.mod').read_text()}\nreplace {ALERTMANAGER} => {copy}\n")
    shutil.copyfile(here / "go.sum", copy.with_suffix(".sum"))
    return manifest


if __name__ == "__main__":
    sys.exit(main())
