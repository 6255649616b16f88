"""Changes the Lua scripts in one place at a time, and names each change that no test notices.

Each change is tried on a copy of the package: first with the tests of the store alone, which are quick; what those do
not notice, with those of workers and their deaths too. What is left needs a test, or a reason in `mutants.toml` why it
changes nothing.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from luaparser import ast, astnodes

ROOT = Path(__file__).parent.parent
LUA = Path("toolspan/store/lua")
EXPLAINED = Path(__file__).with_name("mutants.toml")

STAGES = (("tests/redis",), ("tests/model",), ("tests/worker", "tests/cli", "tests/chaos"))
SERVER = "not redis-server"
LONGEST = 900
"""Seconds after which tests that hang have noticed."""

OPPOSITES = {
    astnodes.EqToOp: ("==", "~="),
    astnodes.NotEqToOp: ("~=", "=="),
    astnodes.LessThanOp: ("<", "<="),
    astnodes.LessOrEqThanOp: ("<=", "<"),
    astnodes.GreaterThanOp: (">", ">="),
    astnodes.GreaterOrEqThanOp: (">=", ">"),
}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one script: *old* at *start* becomes *new*."""

    script: str
    start: int
    old: str
    new: str
    line: int

    def __str__(self) -> str:
        """Say what it changes, on one line."""
        return f"{self.script}:{self.line}: {_short(self.old)}  ->  {_short(self.new) or '(nothing)'}"

    def apply(self, text: str) -> str:
        """Give the changed text."""
        return text[: self.start] + self.new + text[self.start + len(self.old) :]


def mutants_of(script: str, text: str) -> Iterator[Mutant]:
    """List all changes of a script that are still Lua."""
    found: set[Mutant] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, astnodes.Node) and node.start_char is not None:
            start, end = _extent(node, text)
            old = text[start:end]
            for at, part, new in _changes(node, text, start, old):
                found.add(Mutant(script, at, part, new, text.count("\n", 0, at) + 1))
    yield from (mutant for mutant in sorted(found) if _is_lua(mutant.apply(text)))


def _changes(  # noqa: C901 - one arm for each kind of node
    node: astnodes.Node, text: str, start: int, old: str
) -> Iterator[tuple[int, str, str]]:
    match node:
        case astnodes.Block():
            for statement in node.body:
                if not isinstance(statement, astnodes.LocalAssign | astnodes.LocalFunction):
                    first, last = _extent(statement, text)
                    yield first, text[first:last], ""
        case astnodes.If() | astnodes.ElseIf():
            first, last = _extent(node.test, text)
            yield first, text[first:last], "true"
            yield first, text[first:last], "false"
        case astnodes.AndLoOp() | astnodes.OrLoOp():
            for operand in (node.left, node.right):
                first, last = _extent(operand, text)
                yield start, old, text[first:last]
        case astnodes.ULNotOp():
            first, last = _extent(node.operand, text)
            yield start, old, text[first:last]
        case astnodes.Number():
            yield start, old, str(int(node.n) + 1)
        case astnodes.Call() if old.startswith("redis.pcall("):
            yield start, "redis.pcall", "redis.call"
    if type(node) in OPPOSITES:
        sign, opposite = OPPOSITES[type(node)]
        _, left = _extent(node.left, text)
        at = text.index(sign, left)
        yield at, sign, opposite


def _extent(node: astnodes.Node, text: str) -> tuple[int, int]:
    start, end = node.start_char or 0, (node.stop_char or 0) + 1
    # The parser leaves out the name before the dot of a statement that is a call.
    while start and (text[start] in ".([" or re.match(r"\w", text[start])) and re.match(r"[\w.]", text[start - 1]):
        start -= 1
    return start, end


def _is_lua(text: str) -> bool:
    try:
        ast.parse(text)
    except Exception:  # noqa: BLE001 - whatever a parser raises
        return False
    return True


def _short(text: str) -> str:
    return re.sub(r"\s+", " ", text)


class Bench:
    """Copies of the package, in one of which at a time a mutant is tried."""

    def __init__(self, folder: Path, copies: int) -> None:
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(copies):
            copy = folder / str(number)
            shutil.copytree(ROOT / "src", copy)
            self._free.put(copy)

    def survives(self, mutant: Mutant) -> bool:
        """Tell whether all tests pass with *mutant* in place."""
        copy = self._free.get()
        script = copy / LUA / mutant.script
        original = script.read_text()
        script.write_text(mutant.apply(original))
        try:
            return all(self._passes(copy, tests) for tests in STAGES)
        finally:
            script.write_text(original)
            self._free.put(copy)

    def _passes(self, copy: Path, tests: tuple[str, ...]) -> bool:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-k", SERVER, "-p", "no:cacheprovider", *tests]
        try:
            done = subprocess.run(
                command,
                check=False,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(copy)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def main() -> int:
    """Try all mutants of the scripts that were named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scripts", nargs="*", help="settle.lua, lib/pending.lua ...; all without")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only list the changes")
    options = parser.parse_args()
    explained = tomllib.loads(EXPLAINED.read_text())
    folder = ROOT / "src" / LUA
    names = options.scripts or sorted(str(path.relative_to(folder)) for path in folder.rglob("*.lua"))
    mutants = [mutant for name in names for mutant in mutants_of(name, (folder / name).read_text())]
    if options.list:
        print(*mutants, sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as copies, ThreadPoolExecutor(options.jobs) as pool:
        bench = Bench(Path(copies), options.jobs)
        unexplained = 0
        for mutant, survived in zip(mutants, pool.map(bench.survives, mutants), strict=True):
            if not survived:
                continue
            reason = explained.get(mutant.script, {}).get(f"{_short(mutant.old)} -> {_short(mutant.new)}")
            unexplained += reason is None
            print(f"{mutant}{f'   # {reason}' if reason else ''}", flush=True)
    print(f"{len(mutants)} changes, {unexplained} that no test notices and nothing explains")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main())
