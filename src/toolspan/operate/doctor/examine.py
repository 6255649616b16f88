"""All checks, in the order in which somebody would want to read them."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from toolspan.errors import NotPermittedError, StoreError, StoreUnavailableError
from toolspan.operate.doctor.findings import Finding, looked_at, problem
from toolspan.operate.doctor.fleet import fleet, kinds
from toolspan.operate.doctor.permissions import permissions
from toolspan.operate.doctor.server import clock, server
from toolspan.operate.doctor.surroundings import environment, exporter
from toolspan.store import Inspector
from toolspan.store.server import ServerReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolspan.settings import Settings
    from toolspan.store import Connection


async def examine(connection: Connection, settings: Settings, *, roles: Sequence[str] = ()) -> list[Finding]:
    """Check everything; *roles* are those that our user has to be able to play."""
    reader = ServerReader(connection, settings.keys)
    checks = {
        "server": partial(server, reader, settings.keys),
        "clock": partial(clock, reader),
        "permissions": partial(permissions, reader, settings.keys, roles),
        "keys": partial(kinds, reader, settings),
        "fleet": partial(fleet, connection, reader, settings),
    }
    found = environment()
    try:
        await _let_in(Inspector(connection, settings.keys))
        for name, check in checks.items():
            found += await looked_at(name, check)
    except StoreUnavailableError as exc:
        found.append(
            problem("redis", f"Redis cannot be reached: {exc}", "is it running, and is TOOLSPAN_REDIS_URL right?")
        )
    except StoreError as exc:
        found.append(problem("redis", f"Redis refused: {exc}", "is the user of TOOLSPAN_REDIS_URL right?"))
    return found + await exporter()


async def _let_in(inspector: Inspector) -> None:
    """Make sure that Redis takes us for the user that we say we are; what that one may do is another question."""
    with suppress(NotPermittedError):
        await inspector.ping()
