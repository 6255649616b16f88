"""Programs that send calls: one of its own, and a gateway without patience."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress

from toolspan import ToolClient, ToolError
from toolspan.__main__ import main as toolspan


async def _call() -> None:
    """Send each call that the variable tells of in one way; they have the same arguments but for their file."""
    async with ToolClient() as client:
        for way, tool, args, key in json.loads(os.environ["CALLS"]):
            with suppress(ToolError):
                if way == "call":
                    await client.call(tool, args, idempotency_key=key)
                elif way == "send":
                    await client.send(tool, args, idempotency_key=key)
                else:
                    async with client.stream(tool, args, idempotency_key=key) as following:
                        async for _ in following:
                            pass


def main() -> None:
    """Send them, and end."""
    asyncio.run(_call())


def impatient() -> None:
    """Be a gateway without patience for silence, with scripts that no server knows yet if the variable says so."""
    from toolspan.gateway import http  # noqa: PLC0415
    from toolspan.store import channels  # noqa: PLC0415

    vars(http)["KEEP_ALIVE_SECONDS"] = 0.02
    vars(channels)["SILENT_SECONDS"] = 0.2
    if "UNKNOWN_SCRIPTS" in os.environ:
        import tests.points.own_scripts  # noqa: F401, PLC0415
    sys.argv[1:] = ["gateway", "--port", "0"]
    toolspan()
