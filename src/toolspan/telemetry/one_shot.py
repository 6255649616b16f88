"""Telemetry of a command that does one thing: exported at its end, which a collector that is away does not put off."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from toolspan.telemetry.logs import configure, exporters_in_trouble
from toolspan.telemetry.setup import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from toolspan.keys import Keys
    from toolspan.redaction import Redactor
    from toolspan.telemetry.probe import Probe
    from toolspan.telemetry.setup import Service

FAREWELL_SECONDS: Final = 0.7
"""How long a command that has its answer may be kept by a collector."""

LOST: Final = (
    f"what this command did was not exported: no collector took it within {FAREWELL_SECONDS:g} s; "
    "is OTEL_EXPORTER_OTLP_ENDPOINT right?"
)


@asynccontextmanager
async def for_one_command(
    service: Service,
    *,
    keys: Keys,
    instance_id: str,
    server: tuple[str, int | None] | None,
    complain: Callable[[str], None],
    redact: Redactor,
) -> AsyncIterator[Probe]:
    """Give a probe, and export what it was told when the block is left; *complain*, in one sentence, if that failed.

    Of our own lines only errors are shown.
    """
    configure("error", outages=False, redact=redact)
    telemetry = start(service, keys=keys, instance_id=instance_id, server=server, redact=redact)
    try:
        yield telemetry.probe
    finally:
        whole = await asyncio.to_thread(telemetry.shutdown, FAREWELL_SECONDS)
        if not whole or exporters_in_trouble():
            complain(LOST)
