from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import binary_of
from tests.doctor.patient import Patient
from toolspan.testing import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def ward(server_name: str) -> Iterator[EmbeddedServer]:
    """A server that only these tests use."""
    with EmbeddedServer(binary=binary_of(server_name), tcp=True, aof=True) as running:
        yield running


@pytest.fixture
async def patient(ward: EmbeddedServer) -> AsyncIterator[Patient]:
    """A server which a test may configure as badly as it likes: it is well again for the next one."""
    made = Patient(ward)
    yield made
    await made.heal()
