from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.stack import faults
from tests.stack.chain import Chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer  # type: ignore[import-untyped]

STACKS = {"test_alerts.py": "faulty", "test_queries.py": "faulty", "test_healthy.py": "healthy"}


class ByStack(LoadScopeScheduling):  # type: ignore[misc]
    """Whoever shares a stack runs where it is, one after the other; all others run beside them."""

    def _split_scope(self, nodeid: str) -> str:
        return STACKS.get(nodeid.partition("::")[0].rpartition("/")[2], nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByStack:
    return ByStack(config, log)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Everything that runs, healthy and idle."""
    with Chain(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture(scope="session")
def faulty(chain: Chain) -> Chain:
    """The same under load, after everything has gone wrong that the dashboards are for."""
    faults.everything(chain)
    return chain
