"""A pytest plugin that writes down for how long each test runs and which Lua scripts it calls, the quickest first.

TOOLSPAN_CALLERS names the file.
"""

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from toolspan.store import scripts

_calls: dict[str, set[str]] = defaultdict(set)
_seconds: dict[str, float] = {}
_running = ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Note which test runs, and for how long."""
    global _running  # noqa: PLW0603 - hooks have nowhere else to keep it
    _running = item.nodeid
    began = time.monotonic()
    try:
        return (yield)
    finally:
        _seconds[_running] = time.monotonic() - began


def pytest_configure() -> None:
    """Listen to every script that is called."""
    arguments = scripts.Script.arguments

    def heard(script: scripts.Script, values: dict[str, Any]) -> list[Any]:
        _calls[_running].add(script.name)
        return arguments(script, values)

    scripts.Script.arguments = heard  # type: ignore[assignment, method-assign]


def pytest_sessionfinish() -> None:
    """Write it down."""
    found = [(test, _seconds[test], sorted(_calls[test])) for test in sorted(_calls, key=_seconds.__getitem__)]
    Path(os.environ["TOOLSPAN_CALLERS"]).write_text(json.dumps(found))
