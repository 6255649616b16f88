"""Runs the HTTP front door under uvicorn, with a stop that lets open calls finish."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

import uvicorn

from toolspan.errors import RedisUnavailable, StoreError
from toolspan.gateway.client import ToolClient
from toolspan.gateway.http import build_app
from toolspan.gateway.patience import PatientProtocol
from toolspan.gateway.requests import HEAD_BYTES
from toolspan.gateway.tokens import Tokens
from toolspan.loop_watch import LoopWatch
from toolspan.monitor.reporter import Reporter
from toolspan.periodic import ended
from toolspan.store import Connection, Inspector
from toolspan.telemetry.catalog import GATEWAY_STALL_SECONDS

if TYPE_CHECKING:
    from toolspan.settings import Settings
    from toolspan.telemetry.probe import Probe

_FAREWELL_SECONDS: Final = 2
"""How long clients have, once the drain is over, to take their last answer."""


class _Server(uvicorn.Server):
    """Leaves signals to us, as every command of ours does."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Capture none."""
        return nullcontext()


async def serve(settings: Settings, *, host: str, port: int, probe: Probe, until: asyncio.Event) -> None:
    """Serve HTTP on *host* and *port* until *until* is set; then take no more, and let open calls finish.

    Raises:
        SettingsError: if there is a file of tokens that cannot be used.
        RedisUnavailable: if Redis does not answer at the start.
        OSError: if the port cannot be had.
    """
    tokens = None if settings.tokens_file is None else Tokens(settings.tokens_file, probe)
    await _reach(settings)
    watch = LoopWatch(probe, longest=GATEWAY_STALL_SECONDS)
    async with watch, ToolClient(settings, probe=probe) as client:
        listener = _listen(host, port)
        if tokens is None and not _is_loopback(host):
            probe.unprotected(host)
        probe.serving(host, listener.getsockname()[1])
        server = _Server(_configuration(client, tokens))
        serving = asyncio.create_task(server.serve([listener]), name="http")
        stopping = asyncio.create_task(until.wait(), name="stop")
        reporting = asyncio.create_task(_report(settings, probe, me=client.gateway_id, until=until), name="report")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.should_exit = True
        _, open_calls = await asyncio.wait({serving}, timeout=settings.drain_seconds)
        if open_calls:
            # They get an answer of ours, before uvicorn cuts them off with one of its own.
            client.replies.abandon()
        await serving
        await ended(reporting)
    probe.serving_no_more()


async def _reach(settings: Settings) -> None:
    """Make sure that Redis answers, before whatever reads from it all the time finds out that it does not."""
    connection = Connection.to(settings.redis_url)
    try:
        await Inspector(connection, settings.keys).ping()
    except StoreError as exc:
        raise RedisUnavailable(f"Redis is unavailable ({exc})") from exc
    finally:
        await connection.aclose()


async def _report(settings: Settings, probe: Probe, *, me: str, until: asyncio.Event) -> None:
    """Report the group when we are elected; where all workers are dead, nobody else may be there to do it."""
    connection = Connection.to(settings.redis_url)
    inspector = Inspector(connection, settings.keys)
    try:
        await Reporter(inspector, probe, me=me, lease_ms=settings.lease_ms, deputy=True).run(until=until)
    finally:
        await connection.aclose()


def _configuration(client: ToolClient, tokens: Tokens | None) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(client, tokens),
        # Its parser bounds what it keeps of a request's head. What is somewhat larger than ours is told so by us.
        http=PatientProtocol,
        h11_max_incomplete_event_size=2 * HEAD_BYTES,
        log_config=None,
        # What is wrong with a request is told to who sent it, who could fill the log otherwise.
        log_level="error",
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(client.settings.drain_seconds) + _FAREWELL_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
