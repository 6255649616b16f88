"""Changes the Lua scripts and the codec in one place at a time, and names each change that no test notices.

Each change is tried on a copy of the package: first with the tests that are quick and near, then, what those do not
notice, with more. What is left needs a test, or a reason in `explained.toml` why it changes nothing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.mutants import lua, python
from tools.mutants.bench import ROOT, Bench
from tools.mutants.mutant import Mutant

SRC = ROOT / "src"
LUA = Path("toolspan/store/lua")
CODEC = Path("toolspan/codec")
_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)
EXPLAINED = Path(__file__).with_name("explained.toml")

_UNIT = tuple(
    f"tests/unit/test_codec_{name}.py"
    for name in ("names", "json", "calls", "once", "replies", "dead_letters", "control")
)
# Without conftest.py, which imports all that there is.
NEAR_CODEC = ("--noconftest", *_UNIT)
FAR_CODEC = (
    ("--noconftest", "--hypothesis-seed=1", "tests/unit/test_codec_fuzz.py", "tests/unit/test_codec_properties.py"),
    ("tests/unit", "tests/redis", "tests/gateway", "tests/protocol", "tests/telemetry"),
)
NEAR_LUA = ("-k", "not redis-server", "tests/redis")
FAR_LUA = (("tests/model",), ("tests/worker", "tests/cli", "tests/chaos"))


def main() -> int:
    """Try all mutants of the files that were named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", help="lua, codec, settle.lua, lib/pending.lua, calls.py ...; all without")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--near", action="store_true", help="only with the tests that are near: finds too many")
    parser.add_argument("--list", action="store_true", help="only list the changes")
    options = parser.parse_args()
    mutants = [mutant for file in _files(options.files) for mutant in _mutants_of(file)]
    if options.list:
        print(*mutants, sep="\n")
        return 0
    explained = tomllib.loads(EXPLAINED.read_text())
    unexplained = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.jobs)
        callers = _callers() if any(mutant.file.suffix == ".lua" for mutant in mutants) else {}
        plans = [(mutant, _stages(mutant, callers)[: 1 if options.near else None]) for mutant in mutants]
        _refuse_failing(bench, plans)
        for mutant in bench.survivors(plans):
            reason = explained.get(_name(mutant.file), {}).get(mutant.change)
            unexplained += reason is None
            print(f"{mutant}{f'   # {reason}' if reason else ''}", flush=True)
    print(f"{len(mutants)} changes, {unexplained} that no test notices and nothing explains")
    return 1 if unexplained else 0


def _refuse_failing(bench: Bench, plans: Sequence[tuple[Mutant, Sequence[Sequence[str]]]]) -> None:
    """Try no change at all: where tests fail anyway, they would seem to notice everything."""
    # The tests that call a script have just passed, to tell that they do.
    for stage in {tuple(stage) for mutant, stages in plans for stage in stages[mutant.file.suffix == ".lua" :]}:
        if not list(bench.survivors([(Mutant(plans[0][0].file, 0, "", "", 1), [stage])])):
            sys.exit(f"tests fail without any change: {' '.join(stage[:5])} ...")


def _files(names: Sequence[str]) -> list[Path]:
    found = {
        _name(path.relative_to(SRC)): path.relative_to(SRC)
        for pattern in (f"{LUA}/**/*.lua", f"{CODEC}/*.py")
        for path in sorted(SRC.glob(pattern))
        if path.name != "__init__.py"
    }
    groups = {
        "lua": [path for path in found.values() if path.suffix == ".lua"],
        "codec": [path for path in found.values() if path.suffix == ".py"],
    }
    return [path for name in names or groups for path in groups.get(name) or [found[name]]]


def _name(file: Path) -> str:
    """Give what a file is called on the command line, and in `explained.toml`."""
    return str(file.relative_to(LUA if file.suffix == ".lua" else CODEC))


def _mutants_of(file: Path) -> Iterator[Mutant]:
    mutants_of = lua.mutants_of if file.suffix == ".lua" else python.mutants_of
    return mutants_of(file, (SRC / file).read_text())


def _stages(mutant: Mutant, callers: dict[str, list[str]]) -> list[Sequence[str]]:
    if mutant.file.suffix == ".lua":
        return [callers.get(_name(mutant.file), []), *FAR_LUA]
    return [NEAR_CODEC, *FAR_CODEC]


def _callers() -> dict[str, list[str]]:
    """Say for each Lua file which tests of the store call a script that is made of it, those that call least first.

    A test that does not call it cannot notice what is changed there.
    """
    with tempfile.NamedTemporaryFile() as told:
        subprocess.run(
            (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tools.mutants.callers", *NEAR_LUA),
            check=True,
            cwd=ROOT,
            env={**os.environ, "TOOLSPAN_CALLERS": told.name},
        )
        calls: dict[str, list[str]] = json.loads(Path(told.name).read_text())
    found: dict[str, list[str]] = {}
    for test in sorted(calls, key=lambda test: len(calls[test])):
        for script in calls[test]:
            text = (SRC / LUA / f"{script}.lua").read_text()
            for part in (f"{script}.lua", *(f"lib/{piece}.lua" for piece in _INCLUDE.findall(text))):
                found.setdefault(part, []).append(test)
    # Those that are named after it go first.
    return {part: sorted(tests, key=lambda test: Path(part).stem not in test) for part, tests in found.items()}


if __name__ == "__main__":
    sys.exit(main())
