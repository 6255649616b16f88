from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One for all: how HTTP is answered does not depend on which server it is."""
    with EmbeddedServer() as running:
        yield running
