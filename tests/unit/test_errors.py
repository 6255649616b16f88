"""The tree of errors, and the package that gives them out."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import toolspan
from toolspan import errors
from toolspan.errors import CallError, ToolError, ToolspanError
from toolspan.model import Failed

ALL = [error for _, error in inspect.getmembers(errors, inspect.isclass) if error.__module__ == errors.__name__]


def _drawn() -> dict[str, str | None]:
    """Read the picture at the top of the module: each class, and what it hangs from."""
    parents: dict[str, str | None] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"([│├└─\s]*)([A-Z]\w+)(?:\s{2}|$)", line):
            depth = len(found[1]) // 4
            above[depth] = found[2]
            parents[found[2]] = above[depth - 1] if depth else None
    return parents


def test_the_picture_at_the_top_is_the_tree() -> None:
    tree = {error.__name__: error.__bases__[0].__name__ for error in ALL}

    assert _drawn() == {**tree, "ToolspanError": None}


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_an_error_says_what_it_means(error: type[Exception]) -> None:
    assert issubclass(error, ToolspanError)
    assert error.__doc__


def test_the_error_of_a_call_tells_what_was_answered() -> None:
    error = ToolError(Failed("timeout", "too slow", retryable=True, detail={"a": 1}))

    assert isinstance(error, CallError)
    assert (str(error), error.type, error.retryable, error.detail, error.reply) == (
        "too slow",
        "timeout",
        True,
        {"a": 1},
        None,
    )


def test_everything_that_is_promised_can_be_imported() -> None:
    for name in toolspan.__all__:
        assert getattr(toolspan, name).__name__ == name


def test_what_is_not_promised_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'toolspan' has no attribute 'Engine'"):
        _ = toolspan.Engine  # type: ignore[attr-defined]


def test_errors_that_callers_may_meet_are_promised() -> None:
    hidden = {error.__name__ for error in ALL} - set(toolspan.__all__)

    # Kinds of StoreError, and what only the command line and the gateway's own callers meet.
    elsewhere = {"NotReplayableError", "NotDoneError", "Unauthorised", "TooSlow"}
    assert all(issubclass(getattr(errors, name), errors.StoreError) for name in hidden - elsewhere), hidden


def test_whoever_declares_tools_does_not_wait_for_the_client_of_redis() -> None:
    program = "import sys; from toolspan import tool, current_call, Retry; sys.exit('redis' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
