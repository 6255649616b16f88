"""The changes that `make mutants` tries: one place each, nothing that only people read; each explanation is of one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tools.mutants import lua, python
from tools.mutants.run import EXPLAINED, SRC, _files

EXPLANATIONS: dict[str, dict[str, str]] = tomllib.loads(EXPLAINED.read_text())


def changes(text: str) -> set[str]:
    return {mutant.change for mutant in python.mutants_of(Path("x.py"), text)}


def test_a_condition_is_turned_shortened_and_left_out() -> None:
    assert changes("x = a if n < 5 and not b else c") == {
        "n < 5 and not b -> True",
        "n < 5 and not b -> False",
        "n < 5 and not b -> (n < 5)",
        "n < 5 and not b -> (not b)",
        "not b -> b",
        "< -> <=",
        "5 -> 6",
    }


def test_statements_and_what_is_caught_are_left_out() -> None:
    text = "def f():\n    try:\n        g()\n    except (KeyError, ValueError):\n        raise\n    return 'a b'\n"

    assert changes(text) == {
        "g() -> pass",
        "KeyError -> ZeroDivisionError",
        "ValueError -> ZeroDivisionError",
        "raise -> pass",
        "return 'a b' -> return None",
    }


def test_what_only_people_and_type_checkers_read_stays_as_it_is() -> None:
    text = '"""A word."""\nif TYPE_CHECKING:\n    import a\nx: "int" = f"{1}"\nrefuse("word")\n'

    assert changes(text) == {'refuse("word") -> pass'}


def test_changes_that_look_alike_are_told_apart_by_their_lines() -> None:
    found = changes("x = f(1, 1)\ny = 1\nz = 2\n")

    assert found == {"1 -> 2 in: x = f(1, 1)", "1 -> 2 in: x = f(1, 1) (2)", "1 -> 2 in: y = 1", "2 -> 3"}


def test_a_change_is_made_where_it_was_found() -> None:
    text = "x = 1\ny = re.compile('[0-9]{2}')\n"

    assert sorted(m.apply(text) for m in python.mutants_of(Path("x.py"), text)) == [
        "x = 1\ny = re.compile('[0-10]{2}')\n",
        "x = 1\ny = re.compile('[0-9]{3}')\n",
        "x = 1\ny = re.compile('[1-9]{2}')\n",
        "x = 2\ny = re.compile('[0-9]{2}')\n",
    ]


def test_lua_is_changed_in_the_same_way() -> None:
    found = lua.mutants_of(Path("x.lua"), "if a and n == 1 then\n  f('b')\nend\nreturn 2\n")

    assert {(mutant.line, mutant.change) for mutant in found} >= {
        (1, "a and n == 1 -> true"),
        (1, "a and n == 1 -> a"),
        (1, "== -> ~="),
        (2, "f('b') -> (nothing)"),
        (2, "'b' -> 'bx'"),
        (4, "2 -> 3"),
    }


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_every_explanation_is_of_a_change_that_there_is(name: str) -> None:
    [file] = _files([name])
    changes_of = lua.changes_of if name.endswith(".lua") else python.mutants_of
    there = {mutant.change for mutant in changes_of(file, (SRC / file).read_text())}

    assert EXPLANATIONS[name].keys() - there == set()
