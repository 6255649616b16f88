from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.commands import NOBODY, Shell
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from toolspan.settings import Settings


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """One server is enough: what is typed does not depend on its kind."""
    with EmbeddedServer(tcp=True) as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path, settings: Settings) -> Shell:
    """Where commands find the plane of the test."""
    return Shell.of(tmp_path, settings)


@pytest.fixture
def lonely(tmp_path: Path) -> Shell:
    """Where commands find no Redis."""
    return Shell(tmp_path, {"TOOLSPAN_REDIS_URL": NOBODY})
