"""Nothing that comes in is ever run: no pickle, no eval, in Python or in Lua."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import toolspan

SOURCES = Path(toolspan.__file__).parent
MODULES = {
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "jsonpickle",
    "joblib",
    "yaml",
    "code",
    "dbm",
}
FUNCTIONS = {"eval", "exec", "compile", "__import__", "execfile"}
LUA = re.compile(r"\b(loadstring|load|dofile|loadfile|require|setfenv)\s*\(")


def _problems(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.partition(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [(node.module or "").partition(".")[0]]
        found += [name for name in names if name in MODULES]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            found.append(node.func.id)
    return found


def test_our_python_runs_nothing_that_it_was_sent() -> None:
    files = list(SOURCES.rglob("*.py"))

    assert len(files) > 100
    assert {str(path): problems for path in files if (problems := _problems(path.read_text()))} == {}


def test_our_lua_runs_nothing_that_it_was_sent() -> None:
    files = list(SOURCES.rglob("*.lua"))

    assert len(files) > 20
    assert {str(path): found for path in files if (found := LUA.findall(path.read_text()))} == {}


def test_what_would_be_a_problem_is_found() -> None:
    assert _problems("import pickle") == ["pickle"]
    assert _problems("from marshal import loads") == ["marshal"]
    assert _problems("x = eval('1')") == ["eval"]
    assert LUA.findall("return loadstring(ARGV[1])()") == ["loadstring"]
