"""Checks the Lua scripts as Redis will see them: syntax, names, and the keys and arguments of their headers.

Needs Python only, so that `make check` can run it everywhere. luacheck knows more and runs in
`make stack-test`, over what `--compose-into` writes.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from luaparser import ast, astnodes

from toolspan.store.scripts import compose

LUA = Path(__file__).parent.parent / "src" / "toolspan" / "store" / "lua"

# Redis refuses the rest of Lua's library, or it has no business in a script.
REDIS_GLOBALS = frozenset({"redis", "KEYS", "ARGV", "cjson", "cmsgpack"})
LUA_GLOBALS = frozenset(
    {"assert", "error", "ipairs", "math", "next", "pairs", "pcall", "select"}
    | {"string", "table", "tonumber", "tostring", "type", "unpack"}
)
KNOWN = REDIS_GLOBALS | LUA_GLOBALS

LATER_THAN_5_1 = (
    astnodes.Attribute,
    astnodes.BitOp,
    astnodes.FloorDivOp,
    astnodes.Goto,
    astnodes.Label,
    astnodes.UBNotOp,
)

INCLUDE = re.compile(r"^-- include (\w+)\s*$", re.MULTILINE)
LONGEST_LINE = 120  # in bytes, as luacheck counts them
DECLARED = re.compile(r"^-- (KEYS|ARGV)\[(\d+)\]", re.MULTILINE)


@dataclass
class Local:
    """A local name, and whether anything has read it."""

    line: int
    used: bool = False


@dataclass
class Inspector:
    """Walks a syntax tree once, following Lua's scopes, and keeps what it finds."""

    findings: list[tuple[int, str]] = field(default_factory=list)
    read: set[tuple[str, int]] = field(default_factory=set)
    """Every `KEYS[n]` and `ARGV[n]` with a literal n."""
    computed: set[str] = field(default_factory=set)
    """`KEYS` or `ARGV`, where it is used in any other way."""
    _scopes: list[dict[str, Local]] = field(default_factory=list)
    _line: int = 1

    def inspect(self, node: object) -> None:  # noqa: C901, PLR0912 - one arm for each kind of node
        """Visit *node*, a list of nodes, or anything else (which is nothing to us)."""
        if isinstance(node, list):
            for each in node:
                self.inspect(each)
        if not isinstance(node, astnodes.Node):
            return
        self._line = node.line or self._line
        if isinstance(node, LATER_THAN_5_1):
            self._report(f"{node.display_name} is not in Lua 5.1, which is what Redis speaks")
        match node:
            case astnodes.Block():
                self._in_scope([], node.body)
            case astnodes.LocalAssign():
                self.inspect(node.values)
                self._declare(node.targets)
            case astnodes.Assign():
                self.inspect(node.values)
                for target in node.targets:
                    self._assign(target)
            case astnodes.Function():
                self._assign(node.name)
                self._in_scope(node.args, node.body)
            case astnodes.LocalFunction():
                self._declare([node.name])
                self._in_scope(node.args, node.body)
            case astnodes.AnonymousFunction():
                self._in_scope(node.args, node.body)
            case astnodes.Fornum():
                self.inspect([node.start, node.stop, node.step])
                self._in_scope([node.target], node.body)
            case astnodes.Forin():
                self.inspect(node.iter)
                self._in_scope(node.targets, node.body)
            case astnodes.Repeat():  # its condition still sees the locals of the body
                self._in_scope([], [node.body.body, node.test])
            case astnodes.Invoke():
                self.inspect([node.source, node.args])
            case astnodes.Field():
                self.inspect([node.key if node.between_brackets else None, node.value])
            case astnodes.Index():
                self._index(node)
            case astnodes.Name():
                self._use(node.id)
            case _:
                self.inspect([child for name, child in vars(node).items() if not name.startswith("_")])

    def _in_scope(self, names: Iterable[object], body: object) -> None:
        self._scopes.append({})
        self._declare(names)
        self.inspect(body)
        for name, local in self._scopes.pop().items():
            if not local.used and not name.startswith("_"):
                self.findings.append((local.line, f"local '{name}' is never read"))

    def _declare(self, names: Iterable[object]) -> None:
        for name in names:
            if isinstance(name, astnodes.Name):  # and not `...`
                self.inspect(name.attribute)
                if not name.id.startswith("_") and self._find(name.id) is not None:
                    self._report(f"local '{name.id}' hides another of that name")
                self._scopes[-1][name.id] = Local(name.line or self._line)

    def _assign(self, target: object) -> None:
        if not isinstance(target, astnodes.Name):
            self.inspect(target)
        elif self._find(target.id) is None:
            self._report(f"'{target.id}' is set as a global, which Redis refuses; make it local")

    def _use(self, name: str) -> None:
        local = self._find(name)
        if local is not None:
            local.used = True
        elif name not in KNOWN:
            self._report(f"'{name}' is not defined")
        elif name in {"KEYS", "ARGV"}:
            self.computed.add(name)

    def _index(self, node: astnodes.Index) -> None:
        table, index = node.value, node.idx
        if isinstance(table, astnodes.Name) and table.id in {"KEYS", "ARGV"} and isinstance(index, astnodes.Number):
            self.read.add((table.id, int(index.n)))
            return
        self.inspect(table)
        if node.notation is astnodes.IndexNotation.SQUARE:
            self.inspect(index)

    def _find(self, name: str) -> Local | None:
        return next((scope[name] for scope in reversed(self._scopes) if name in scope), None)

    def _report(self, message: str) -> None:
        self.findings.append((self._line, message))


def findings(text: str) -> list[tuple[int, str]]:
    """What is wrong with the composed script *text*: line and sentence."""
    try:
        tree = ast.parse(text)
    except ast.SyntaxException as exc:
        return [(0, str(exc))]
    inspector = Inspector()
    inspector.inspect(tree.body)
    long = [
        (number, f"longer than {LONGEST_LINE} characters")
        for number, line in enumerate(text.encode().splitlines(), 1)
        if len(line) > LONGEST_LINE
    ]
    return sorted([*long, *inspector.findings, *header_findings(text, inspector)])


def header_findings(text: str, inspector: Inspector) -> Iterator[tuple[int, str]]:
    """Where the header's `KEYS[n]` and `ARGV[n]` lines and the body do not agree."""
    declared = {(table, int(n)) for table, n in DECLARED.findall(text)}
    for table, n in sorted(inspector.read - declared):
        yield 0, f"{table}[{n}] is read but the header does not name it"
    for table, n in sorted(declared - inspector.read):
        if table not in inspector.computed:
            yield 0, f"{table}[{n}] is in the header but never read"


def place(path: Path, text: str, line: int) -> str:
    """Name *line* of the composed *text* as a line of *path*, as far as it is one."""
    included = len(text.splitlines()) - len(path.read_text().splitlines())
    if line == 0:
        return path.name
    return f"{path.name}:{line - included}" if line > included else f"{path.name}, included line {line}"


def unused_libraries(scripts: Iterable[Path]) -> Iterator[str]:
    """Libraries that no script includes, and that nothing here would check."""
    libraries = sorted((LUA / "lib").glob("*.lua"))
    included = {name for path in (*scripts, *libraries) for name in INCLUDE.findall(path.read_text())}
    return (f"lib/{path.name}: no script includes it" for path in libraries if path.stem not in included)


def main() -> int:
    """Check every script, or only write them out for another checker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compose-into", type=Path, metavar="DIR", help="write the composed scripts and stop")
    into: Path | None = parser.parse_args().compose_into

    scripts = sorted(LUA.glob("*.lua"))
    if not scripts:
        print(f"no Lua scripts in {LUA}", file=sys.stderr)
        return 1
    composed = {path: compose(path.stem) for path in scripts}
    if into is not None:
        for path, text in composed.items():
            (into / path.name).write_text(text)
        return 0
    problems = [
        f"{place(path, text, line)}: {message}" for path, text in composed.items() for line, message in findings(text)
    ]
    problems += unused_libraries(scripts)
    print(*problems, f"{len(scripts)} scripts, {len(problems)} problems", sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
