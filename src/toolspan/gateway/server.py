"""Runs the HTTP front door under uvicorn, with a stop that lets open calls finish."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import uvicorn

from toolspan.gateway.client import ToolClient
from toolspan.gateway.http import build_app

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.telemetry.probe import Probe


class _Server(uvicorn.Server):
    """Leaves signals to us, as every command of ours does."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture none."""
        return nullcontext()


async def serve(  # noqa: PLR0913
    settings: Settings,
    *,
    host: str,
    port: int,
    probe: Probe,
    until: asyncio.Event,
) -> None:
    """Serve HTTP on *host* and *port* until *until* is set, then let open calls finish.

    Raises:
        OSError: if the port cannot be had.
    """
    if not _is_loopback(host):
        probe.unprotected(host)
    async with ToolClient(settings, probe=probe) as client:
        config = uvicorn.Config(
            build_app(client),
            host,
            port,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=int(settings.drain_seconds) or 1,
        )
        server = _Server(config)
        sock = socket.create_server((host, port))
        probe.serving(host, sock.getsockname()[1])
        serving = asyncio.create_task(server.serve([sock]), name="http")
        stopping = asyncio.create_task(until.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.should_exit = True
        await serving


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
