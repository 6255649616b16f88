"""The changes of a Lua script."""

import re
from collections.abc import Iterator
from pathlib import Path

from luaparser import ast, astnodes

from tools.mutants.mutant import Mutant, told_apart

_WORD = re.compile(r"[\w.:~]+")
_OPPOSITES = {
    astnodes.EqToOp: ("==", "~="),
    astnodes.NotEqToOp: ("~=", "=="),
    astnodes.LessThanOp: ("<", "<="),
    astnodes.LessOrEqThanOp: ("<=", "<"),
    astnodes.GreaterThanOp: (">", ">="),
    astnodes.GreaterOrEqThanOp: (">=", ">"),
}


def mutants_of(file: Path, text: str) -> Iterator[Mutant]:
    """List all changes of *text* that are still Lua."""
    yield from (mutant for mutant in changes_of(file, text) if _is_lua(mutant.apply(text)))


def changes_of(file: Path, text: str) -> list[Mutant]:
    """List all changes of *text*, whether they are still Lua or not; it takes long to find out."""
    found: set[Mutant] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, astnodes.Node) and node.start_char is not None:
            start, end = _extent(node, text)
            old = text[start:end]
            for at, part, new in _changes(node, text, start, old):
                found.add(Mutant(file, at, part, new, text.count("\n", 0, at) + 1))
    return told_apart(found, text)


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
        case astnodes.String() if _WORD.fullmatch(old[1:-1]):
            yield start, old, f"{old[:-1]}x{old[-1]}"
        case astnodes.Call() if old.startswith("redis.pcall("):
            yield start, "redis.pcall", "redis.call"
    if type(node) in _OPPOSITES:
        sign, opposite = _OPPOSITES[type(node)]
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
