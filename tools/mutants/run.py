"""Changes the Lua scripts and the codec in one place at a time, and names each change that no test notices.

Each change is tried on a copy of the package: first with the tests that are quick and near, then, what those do not
notice, with more. What is left needs a test, or a reason in `explained.toml` why it changes nothing. What has a reason
is tried with the near tests only: if one notices it, the reason is none.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from tools.mutants import lanes, lua, python
from tools.mutants.bench import ROOT, SERVER, Bench, Stage
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
NEAR_LUA = "tests/redis"
QUICK_SECONDS = 0.8
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
    reasons = tomllib.loads(EXPLAINED.read_text())
    explained = {one: reason for one in mutants if (reason := reasons.get(_name(one.file), {}).get(one.change))}
    only_near = mutants if options.near else explained
    survivors: set[Mutant] = set()
    with tempfile.TemporaryDirectory() as folder:
        for mutant in _survivors(Path(folder), mutants, jobs=options.jobs, only_near=only_near):
            survivors.add(mutant)
            print(f"{mutant}{f'   # {explained[mutant]}' if mutant in explained else ''}", flush=True)
    noticed = explained.keys() - survivors
    for mutant in sorted(noticed):
        print(f"{mutant}   # explained, and noticed all the same")
    unexplained = survivors - explained.keys()
    print(f"{len(mutants)} changes, {len(unexplained)} that no test notices and nothing explains")
    return 1 if unexplained or noticed else 0


def _survivors(
    folder: Path, mutants: Sequence[Mutant], *, jobs: int, only_near: Collection[Mutant]
) -> Iterator[Mutant]:
    if of_lua := [mutant for mutant in mutants if mutant.file.suffix == ".lua"]:
        callers = _callers()
        far = [name for stage in FAR_LUA for name in stage] if len(only_near) < len(mutants) else []
        bench = Bench(folder / "lua", jobs, lanes.for_lua(NEAR_LUA, *far))
        stages = {one: _stages(callers.get(_name(one.file), {})) for one in of_lua}
        yield from _first_near_then_far(bench, stages, only_near)
    if of_codec := [mutant for mutant in mutants if mutant.file.suffix == ".py"]:
        bench = Bench(folder / "codec", jobs, lanes.for_python)
        yield from _first_near_then_far(bench, {one: [NEAR_CODEC, *FAR_CODEC] for one in of_codec}, only_near)


def _stages(callers: dict[str, float]) -> list[Stage]:
    quick = [test for test, seconds in callers.items() if seconds < QUICK_SECONDS]
    slow = [test for test in callers if test not in quick]
    return [quick, [*slow, *FAR_LUA[0]], *FAR_LUA[1:]]


def _first_near_then_far(
    bench: Bench, stages: dict[Mutant, list[Stage]], only_near: Collection[Mutant]
) -> Iterator[Mutant]:
    left = []
    for mutant in _tried(bench, {one: all_of_it[:1] for one, all_of_it in stages.items()}):
        if mutant in only_near:
            yield mutant
        else:
            left.append(mutant)
    yield from _tried(bench, {one: stages[one][1:] for one in left})


def _tried(bench: Bench, plans: dict[Mutant, Sequence[Stage]]) -> Iterator[Mutant]:
    """Try no change first: where tests fail anyway, they would seem to notice everything."""
    for stages in zip(*plans.values(), strict=True):
        once_each = [*{name: None for stage in stages for name in stage}]
        nothing = replace(next(iter(plans)), old="", new="")
        if not list(bench.survivors([(nothing, [once_each])])):
            sys.exit(f"tests fail without any change: {' '.join(once_each[:5])} ...")
    yield from bench.survivors(plans.items())


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


def _callers() -> dict[str, dict[str, float]]:
    """Say for each Lua file for how many seconds each test of the store runs that calls a script made of it.

    A test that does not call it cannot notice what is changed there.
    """
    with tempfile.NamedTemporaryFile() as told:
        subprocess.run(
            (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tools.mutants.callers", NEAR_LUA),
            check=True,
            cwd=ROOT,
            env={**os.environ, "TOOLSPAN_CALLERS": told.name, "TEST_SERVERS": SERVER},
        )
        calls: list[tuple[str, float, list[str]]] = json.loads(Path(told.name).read_text())
    found: dict[str, dict[str, float]] = {}
    for test, seconds, scripts in calls:
        for script in scripts:
            text = (SRC / LUA / f"{script}.lua").read_text()
            for part in (f"{script}.lua", *(f"lib/{piece}.lua" for piece in _INCLUDE.findall(text))):
                found.setdefault(part, {})[test] = seconds
    # Those that are named after it go first.
    return {
        part: dict(sorted(tests.items(), key=lambda test: Path(part).stem not in test[0]))
        for part, tests in found.items()
    }


if __name__ == "__main__":
    sys.exit(main())
