"""Every point between two awaits of one part of our code, and the same code with a call at each."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PASSED: Final = "__point_passed__"
WITHIN: Final = "__points_of_with__"
EACH: Final = "__points_of_for__"
# What the three are is said in `hooks.py`.

_LONGEST: Final = 60
_STREAM: Final = tuple(f"toolspan.store.{name}" for name in ("stream", "taking", "holding", "upkeep"))
_ASKS: Final = "it appends nothing"
_OTHERS: Final = "other commands do that"


@dataclass(frozen=True, slots=True)
class Part:
    """Modules whose points count, new ones of a *package* by themselves; and where no process that dies ever is.

    *elsewhere* says of such a place why: a module, and a function unless it is all of it.
    """

    package: str
    beside: tuple[str, ...]
    elsewhere: Mapping[tuple[str, str], str]

    def modules(self) -> list[str]:
        """Name all modules."""
        found = {path.stem for path in file_of(f"{self.package}.__init__").parent.glob("*.py")} if self.package else ()
        return [*sorted(f"{self.package}.{stem}" for stem in {*found} - {"__init__"}), *self.beside]


PARTS: Final = {
    # What a delivery meets in a worker.
    "worker": Part(
        "toolspan.worker",
        ("toolspan.periodic", "toolspan.store.scripts", *_STREAM),
        {
            ("toolspan.worker.supervisor", ""): "it has no delivery, and the processes that have end with it",
        },
    ),
    # What a call meets on its way to the stream, and its caller until the reply is there.
    "gateway": Part(
        "toolspan.gateway",
        (
            "toolspan.loop_watch",
            "toolspan.store.appends",
            "toolspan.store.callers",
            "toolspan.store.channels",
            "toolspan.store.scripts",
        ),
        {
            ("toolspan.gateway.client", "ToolClient.tools"): _ASKS,
            ("toolspan.gateway.client", "ToolClient.tools_and_pauses"): _ASKS,
            ("toolspan.gateway.client", "ToolClient.check"): _ASKS,
            ("toolspan.gateway.client", "ToolClient.cancel"): _ASKS,
            ("toolspan.gateway.client", "ToolClient.cancel_call"): _ASKS,
            ("toolspan.gateway.http", "_Gateway.tools"): _ASKS,
            ("toolspan.gateway.http", "_Gateway.cancel"): _ASKS,
            ("toolspan.gateway.sync", ""): "it has a client of its own do the same, in a thread",
            ("toolspan.store.channels", "Channels.subscribe_to_all"): "a worker listens to what is given up",
        },
    ),
    # What an operator's replay goes through.
    "replay": Part(
        "",
        (
            *("toolspan.cli.dead_letter_replay", "toolspan.cli.operators", "toolspan.telemetry.one_shot"),
            *("toolspan.operate.answers", "toolspan.operate.dead_letters", "toolspan.operate.letter_finder"),
            *("toolspan.operate.replays", "toolspan.operate.stopping", "toolspan.store.dead_letters"),
        ),
        {
            ("toolspan.operate.dead_letters", "entries"): _OTHERS,
            ("toolspan.operate.dead_letters", "causes"): _OTHERS,
            ("toolspan.operate.dead_letters", "discard"): _OTHERS,
            ("toolspan.operate.dead_letters", "purge"): _OTHERS,
            ("toolspan.operate.dead_letters", "to_purge"): _OTHERS,
            ("toolspan.operate.dead_letters", "_last_of"): _OTHERS,
            ("toolspan.store.dead_letters", "DeadLetterStore.one"): _OTHERS,
            ("toolspan.store.dead_letters", "DeadLetterStore.discard"): _OTHERS,
            ("toolspan.store.dead_letters", "DeadLetterStore.purge"): _OTHERS,
        },
    ),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One place at which a process may end: before or after something that is awaited."""

    module: str
    function: str
    line: int
    when: str
    """`before` or `after`; of an `async with` also of its end."""
    what: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.function}, {self.when} `{self.what}`"


def file_of(module: str) -> Path:
    """Give the file of a module of ours; to import any part of it on the way would be too early."""
    spec = find_spec(module.partition(".")[0])
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], *module.split(".")[1:]).with_suffix(".py")


class Code:
    """The modules of a part with a call at each point, whose number is its place in the list of *points*."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.points: list[Point] = []
        self._elsewhere = PARTS[part].elsewhere
        modules = PARTS[part].modules()
        self.trees = {module: marked(module, file_of(module).read_text(), self.points) for module in modules}

    def elsewhere(self, point: Point) -> tuple[str, str] | None:
        """Give what says that no process that dies is ever at *point*, if there is that."""
        places = (point.module, ""), (point.module, point.function)
        return next((place for place in places if place in self._elsewhere), None)


def marked(module: str, source: str, points: list[Point]) -> ast.Module:
    """Put a call at each point of *source*, and those to *points*."""
    tree: ast.Module = _Marker(module, points).visit(ast.parse(source))
    return ast.fix_missing_locations(tree)


class _Marker(ast.NodeTransformer):
    """Puts the calls in, and numbers them in the order in which it meets them."""

    def __init__(self, module: str, points: list[Point]) -> None:
        self._module = module
        self._points = points
        self._within: list[str] = []

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._inside(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._inside(node)

    def visit_Await(self, node: ast.Await) -> ast.AST:
        number = self._note(node, f"await {ast.unparse(node.value)}", "before", "after")
        self.generic_visit(node)
        node.value = _call(PASSED, number, node.value)
        return ast.copy_location(_call(PASSED, number + 1, node), node)

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        for item in node.items:
            what = f"async with {ast.unparse(item.context_expr)}"
            number = self._note(item.context_expr, what, "before", "after", "before the end of", "after the end of")
            item.context_expr = _call(WITHIN, number, self.visit(item.context_expr))
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        number = self._note(
            node, f"async for {ast.unparse(node.target)} in {ast.unparse(node.iter)}", "before", "after"
        )
        self.generic_visit(node)
        node.iter = _call(EACH, number, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        number = (
            self._note(node.iter, f"async for {ast.unparse(node.target)}", "before", "after") if node.is_async else 0
        )
        self.generic_visit(node)
        if node.is_async:
            node.iter = _call(EACH, number, node.iter)
        return node

    def _inside(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()
        return node

    def _note(self, node: ast.expr | ast.AsyncFor, what: str, *whens: str) -> int:
        """Number the points of one thing that is awaited, and give the first number."""
        short = what if len(what) <= _LONGEST else f"{what[: _LONGEST - 1]}…"
        first = len(self._points)
        self._points += (Point(self._module, ".".join(self._within), node.lineno, when, short) for when in whens)
        return first


def _call(name: str, number: int, argument: ast.expr) -> ast.Call:
    arguments: list[ast.expr] = [ast.copy_location(ast.Constant(number), argument), argument]
    return ast.copy_location(ast.Call(ast.copy_location(ast.Name(name, ast.Load()), argument), arguments, []), argument)
