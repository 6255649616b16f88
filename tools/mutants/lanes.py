"""How a process gets ready for trials: what need not be done again for each of them is done before."""

import gc
import os
from collections.abc import Callable, Iterator

import pytest

from tools.mutants.bench import Lane, Stage, Test

# What all trials of a Python module have in common: whatever tests import besides our own package, which differs.
_WARM = (
    "httpx",
    "hypothesis",
    "opentelemetry.instrumentation.redis",
    "opentelemetry.sdk.metrics",
    "opentelemetry.sdk.trace",
    "pydantic_settings",
    "redis.asyncio",
    "rich.console",
    "starlette.applications",
    "structlog",
    "uvicorn",
)
_NEAR_SECONDS = 20
_OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "--assert=plain")


def for_python(serve: Callable[[Test], None]) -> None:
    """Import what does not change; each trial imports the package and collects its tests."""
    for module in _WARM:
        __import__(module)
    gc.freeze()
    serve(_import_and_test)


def _import_and_test(stage: Stage) -> int:
    # That they are imported before pytest is, is the point of a fork.
    quiet = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    return pytest.main([*_OPTIONS, *quiet, *stage])


def for_lua(near: str, *far: str) -> Lane:
    """Import the package and collect all tests once: a script is read when something calls it."""

    def lane(serve: Callable[[Test], None]) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        pytest.main([*_OPTIONS, near, *far], plugins=[_Collected(serve, near)])

    return lane


class _Collected:
    """A pytest plugin that runs what each trial asks for, instead of all that was collected."""

    def __init__(self, serve: Callable[[Test], None], near: str) -> None:
        self._serve = serve
        self._near = near

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Wait less long for a script that never ends."""
        for item in items:
            if item.nodeid.startswith(f"{self._near}/"):
                item.add_marker(pytest.mark.timeout(_NEAR_SECONDS))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run no test in this process."""
        # The one of the copy, which is not there before the process is.
        from toolspan.store.scripts import compose  # noqa: PLC0415

        def test(stage: Stage) -> int:
            items = list(_items(session, stage))
            for item, following in zip(items, [*items[1:], None], strict=True):
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                if session.testsfailed:
                    return 1
            return 0

        compose.cache_clear()
        gc.collect()
        gc.freeze()
        self._serve(test)
        return True


def _items(session: pytest.Session, stage: Stage) -> Iterator[pytest.Item]:
    """Give the tests of *stage*, each named by itself or by its folder, in that order."""
    named = {item.nodeid: item for item in session.items}
    for name in stage:
        if name in named:
            yield named[name]
        else:
            yield from (item for item in session.items if item.nodeid.startswith(f"{name}/"))
