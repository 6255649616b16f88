"""The changes of a Python module."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tools.mutants.mutant import Mutant, told_apart

_OPPOSITES: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
}
_NUMBER = re.compile(r"\d+")
_WORD = re.compile(r"[\w.:]+")
_NOTHING = "ZeroDivisionError"
"""What is never raised, in place of what is caught."""

_Change = tuple[int, str, str]


def mutants_of(file: Path, text: str) -> Iterator[Mutant]:
    """List all changes of *text* that are still Python; what people read, and what types say, stays as it is."""
    module = _Module(text)
    found = {
        Mutant(file, at, old, new, text.count("\n", 0, at) + 1)
        for node in _running(ast.parse(text))
        for at, old, new in module.changes(node)
    }
    yield from (mutant for mutant in told_apart(found, text) if _is_python(mutant.apply(text)))


class _Module:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def changes(self, node: ast.expr | ast.stmt | ast.ExceptHandler) -> Iterator[_Change]:
        for part, new in _replaced(node):
            yield (*self._place(part), new)
        match node:
            case ast.BoolOp():
                yield from self._shortened(node)
            case ast.Compare():
                yield from self._compared_otherwise(node)
            case ast.UnaryOp(op=ast.Not()):
                yield (*self._place(node), self._place(node.operand)[1])
            case ast.BinOp(op=ast.Add()):
                yield self._after(node.left, "+"), "+", "-"
            case ast.BinOp(op=ast.Sub()):
                yield self._after(node.left, "-"), "-", "+"
            case ast.Call() if self._place(node.func)[1] == "re.compile":
                at, pattern = self._place(node.args[0])
                for number in _NUMBER.finditer(pattern):
                    yield at + number.start(), number.group(), str(int(number.group()) + 1)

    def _shortened(self, node: ast.BoolOp) -> Iterator[_Change]:
        word = " and " if isinstance(node.op, ast.And) else " or "
        for left_out in node.values:
            others = [self._place(one)[1] for one in node.values if one is not left_out]
            yield (*self._place(node), f"({word.join(others)})")

    def _compared_otherwise(self, node: ast.Compare) -> Iterator[_Change]:
        for sign, left in zip(node.ops, (node.left, *node.comparators), strict=False):
            word, opposite = _OPPOSITES[type(sign)]
            yield self._after(left, word), word, opposite

    def _after(self, node: ast.expr, word: str) -> int:
        at, text = self._place(node)
        return self._text.index(word, at + len(text))

    def _place(self, node: ast.expr | ast.stmt | ast.ExceptHandler) -> tuple[int, str]:
        at = self._lines[node.lineno - 1] + node.col_offset
        return at, self._text[at : self._lines[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)]


def _running(node: ast.AST) -> Iterator[ast.expr | ast.stmt | ast.ExceptHandler]:
    """Walk over what runs: no docstrings, annotations, parts of f-strings, and nothing that is raised or refused."""
    if isinstance(node, ast.expr | ast.stmt | ast.ExceptHandler):
        yield node
    if _is_told(node):
        return
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_docstring(child) and not _is_for_types(child):
                yield from _running(child)


def _is_told(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"refuse", "cast"}:
        return True
    return isinstance(node, ast.JoinedStr | ast.Raise | ast.Import | ast.ImportFrom)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _replaced(  # noqa: C901 - one arm for each kind of node
    node: ast.AST,
) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield test, "True"
            yield test, "False"
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield node, "return None"
        case ast.Expr() | ast.Raise() | ast.AugAssign() | ast.Continue() | ast.Break():
            yield node, "pass"
        case ast.ExceptHandler(type=ast.Tuple(elts=kinds)) | ast.Call(func=ast.Name(id="suppress"), args=kinds):
            for kind in kinds:
                yield kind, _NOTHING
        case ast.ExceptHandler(type=ast.expr() as kind):
            yield kind, _NOTHING
        case ast.Constant(value=bool() as value):
            yield node, str(not value)
        case ast.Constant(value=int() as value):
            yield node, str(value + 1)
        case ast.Constant(value=str() as value) if _WORD.fullmatch(value):
            yield node, repr(f"{value}x")
        case ast.Constant(value=bytes() as value) if _WORD.fullmatch(value.decode(errors="replace")):
            yield node, repr(value + b"x")


def _is_python(text: str) -> bool:
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True
