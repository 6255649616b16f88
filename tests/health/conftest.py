from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One server is enough: how a worker tells of itself does not depend on its kind."""
    with EmbeddedServer() as running:
        yield running
