"""A pytest plugin that writes down which Lua scripts each test calls, where TOOLSPAN_CALLERS says."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from toolspan.store import scripts

_calls: dict[str, set[str]] = defaultdict(set)
_running = ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Note which test runs."""
    global _running  # noqa: PLW0603 - hooks have nowhere else to keep it
    _running = item.nodeid
    return (yield)


def pytest_configure() -> None:
    """Listen to every script that is called."""
    arguments = scripts.Script.arguments

    def heard(script: scripts.Script, values: dict[str, Any]) -> list[Any]:
        _calls[_running].add(script.name)
        return arguments(script, values)

    scripts.Script.arguments = heard  # type: ignore[assignment, method-assign]


def pytest_sessionfinish() -> None:
    """Write it down."""
    found = {test: sorted(names) for test, names in _calls.items()}
    Path(os.environ["TOOLSPAN_CALLERS"]).write_text(json.dumps(found))
