from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack import faults
from tests.stack.chain import Chain

if TYPE_CHECKING:
    from collections.abc import Iterator


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
