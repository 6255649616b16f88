"""The commands that serve until they are told to stop: worker, gateway, monitor."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from toolspan.cli import signals
from toolspan.cli.output import FAILED, NO_REDIS, example, fail, new_loop, reported, run
from toolspan.cli.redacting import redactor
from toolspan.errors import StoreUnavailableError
from toolspan.settings import Settings
from toolspan.telemetry.logs import LEVELS, configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from toolspan.health import Unready
    from toolspan.monitor.reporter import Reporter
    from toolspan.redaction import Redactor
    from toolspan.telemetry.logs import Level
    from toolspan.worker.supervisor import Supervisor
    from toolspan.worker.vitals import Vitals

T = TypeVar("T")

_ALLOCATIONS_PER_COLLECTION: Final = 10_000

_log_level = click.option(
    "--log-level", type=click.Choice(LEVELS), default="info", show_default=True, help="Lines from which level up."
)


@click.command(
    **example("toolspan worker --tools my_tools --concurrency 50", "toolspan worker --tools toolspan.tools.builtin")
)
@click.option("--tools", multiple=True, required=True, metavar="MODULE[:NAME]", help="Where the tools are; repeatable.")
@click.option("--stream", help="Name of the stream; TOOLSPAN_STREAM.")
@click.option("--concurrency", type=int, help="Calls held at most; TOOLSPAN_CONCURRENCY.")
@click.option("--processes", type=click.IntRange(1, 256), default=1, show_default=True, help="Worker processes.")
@click.option("--name", help="A label for the consumer's name; the host's name if there is none.")
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    help="Port of /livez and /readyz; 0 picks a free one. None if unset.",
)
@click.option("--health-host", default="127.0.0.1", show_default=True, help="Address of /livez and /readyz.")
@click.option("--health-pipe", type=click.IntRange(3), hidden=True, help="What --processes gives to its children.")
@click.option("--redis-was-away", is_flag=True, hidden=True, help="So the child before this one has said it already.")
@_log_level
@reported
def worker(
    *,
    tools: tuple[str, ...],
    stream: str | None,
    concurrency: int | None,
    processes: int,
    name: str | None,
    health_port: int | None,
    health_host: str,
    health_pipe: int | None,
    redis_was_away: bool,
    log_level: Level,
) -> None:
    """Serve tools until SIGTERM; then finish what is held."""
    settings = Settings.load(stream=stream, concurrency=concurrency)
    redact = redactor(settings)
    configure(log_level, redact=redact)
    if processes > 1:
        arguments = ["worker", "--log-level", log_level, "--stream", settings.stream]
        arguments += ["--concurrency", str(settings.concurrency)]
        arguments += [part for spec in tools for part in ("--tools", spec)]
        if name:
            arguments += ["--name", name]
        from toolspan.worker.supervisor import Supervisor  # noqa: PLC0415

        supervisor = Supervisor(arguments, processes)
        with _health(supervisor.unready, host=health_host, port=health_port):
            sys.exit(run(_supervise(supervisor)))
    sys.path.insert(0, "")
    from toolspan.tools.registry import Registry  # noqa: PLC0415
    from toolspan.worker.vitals import Vitals  # noqa: PLC0415

    vitals = Vitals(settings.lease_ms)
    with _health(vitals.unready, host=health_host, port=health_port, pipe=health_pipe):
        with signals.outright():
            registry = Registry.load(tools)
        _quiet_garbage_collection()
        try:
            _run_and_leave(_serve(registry, settings, name, vitals, redact))
        except StoreUnavailableError:
            if not redis_was_away:
                raise
            sys.exit(NO_REDIS)


@contextmanager
def _health(
    unready: Callable[[], Unready | None], *, host: str, port: int | None, pipe: int | None = None
) -> Iterator[None]:
    """Let whoever wants to know learn whether we are ready: over HTTP, or our parent."""
    from toolspan.health import HealthServer, listen  # noqa: PLC0415
    from toolspan.worker.pulse import Pulse  # noqa: PLC0415

    with ExitStack() as told:
        if port is not None:
            try:
                listener = listen(host, port)
            except OSError as exc:
                fail(f"cannot listen on {host}:{port}: {_reason(exc)}; choose another --health-port", FAILED)
            told.enter_context(HealthServer(listener, unready))
        if pipe is not None:
            told.enter_context(Pulse(pipe, unready))
        yield


async def _supervise(supervisor: Supervisor) -> int:
    with signals.told(asyncio.get_running_loop(), supervisor.stop):
        return await supervisor.run()


async def _serve(registry: Any, settings: Settings, name: str | None, vitals: Vitals, redact: Redactor) -> int:
    from toolspan.monitor.reporter import Reporter  # noqa: PLC0415
    from toolspan.monitor.retention import Retention  # noqa: PLC0415
    from toolspan.store import Connection, Inspector  # noqa: PLC0415
    from toolspan.telemetry.setup import start  # noqa: PLC0415
    from toolspan.worker.engine import consumer_name  # noqa: PLC0415
    from toolspan.worker.worker import Worker  # noqa: PLC0415

    me = consumer_name(name)
    connection = Connection.to(settings.redis_url)
    telemetry = start(
        "worker",
        keys=settings.keys,
        instance_id=me,
        server=connection.address,
        link_only=settings.link_only,
        capture_args=settings.capture_args,
        redact=redact,
        own_process=True,
    )
    try:
        serving = Worker(connection, registry, settings, telemetry.probe, me=me, vitals=vitals)
        with signals.told(asyncio.get_running_loop(), serving.stop):
            inspector = Inspector(connection, settings.keys)
            retention = Retention.of(connection, settings, telemetry.probe)
            reporter = Reporter(inspector, telemetry.probe, me=me, lease_ms=settings.lease_ms, retention=retention)
            ended = asyncio.Event()
            reporting = asyncio.create_task(_report(reporter, once=serving.ready, until=ended))
            try:
                clean = await serving.run()
            finally:
                ended.set()
                if not serving.ready.is_set():
                    reporting.cancel()
                await asyncio.wait({reporting}, timeout=1)
        return 0 if clean else FAILED
    finally:
        await connection.aclose()
        await asyncio.to_thread(telemetry.shutdown)


async def _report(reporter: Reporter, *, once: asyncio.Event, until: asyncio.Event) -> None:
    """Report the group as soon as *once* is set: a worker that cannot join has one thing to say, and that is why."""
    await once.wait()
    await reporter.run(until=until)


@click.command(**example("toolspan gateway --port 8080"))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 picks a free one."
)
@_log_level
@reported
def gateway(host: str, port: int, log_level: Level) -> None:
    """Serve HTTP: POST /v1/tools/TOOL/calls; see /openapi.json."""
    settings = Settings.load()
    redact = redactor(settings)
    configure(log_level, redact=redact)
    try:
        from toolspan.gateway.server import serve  # noqa: PLC0415
    except ImportError:
        fail("the gateway is not installed: pip install 'toolspan[gateway]'", FAILED)

    async def main(until: asyncio.Event) -> None:
        from toolspan.store import Connection  # noqa: PLC0415
        from toolspan.telemetry.setup import start  # noqa: PLC0415
        from toolspan.worker.engine import consumer_name  # noqa: PLC0415

        address = Connection.to(settings.redis_url).address
        telemetry = start(
            "gateway",
            keys=settings.keys,
            instance_id=consumer_name("gateway"),
            server=address,
            redact=redact,
            own_process=True,
        )
        try:
            await serve(settings, host=host, port=port, probe=telemetry.probe, until=until)
        finally:
            await asyncio.to_thread(telemetry.shutdown)

    try:
        run(_until_stopped(main))
    except OSError as exc:
        fail(f"cannot listen on {host}:{port}: {_reason(exc)}; choose another --port", FAILED)


def _reason(exc: OSError) -> str:
    # What the library adds in brackets is the address once more.
    return str(exc.strerror).partition(" (")[0]


@click.command(**example("toolspan monitor", "toolspan monitor --stream batch"))
@click.option("--stream", help="Name of the stream; TOOLSPAN_STREAM.")
@_log_level
@reported
def monitor(*, stream: str | None, log_level: Level) -> None:
    """Report the group's gauges, also when every worker is dead."""
    settings = Settings.load(stream=stream)
    redact = redactor(settings)
    configure(log_level, redact=redact)

    async def main(until: asyncio.Event) -> None:
        from toolspan.monitor.reporter import Reporter  # noqa: PLC0415
        from toolspan.monitor.retention import Retention  # noqa: PLC0415
        from toolspan.store import Connection, Inspector  # noqa: PLC0415
        from toolspan.telemetry.setup import start  # noqa: PLC0415
        from toolspan.worker.engine import consumer_name  # noqa: PLC0415

        me = consumer_name("monitor")
        connection = Connection.to(settings.redis_url)
        telemetry = start(
            "monitor",
            keys=settings.keys,
            instance_id=me,
            server=connection.address,
            redact=redact,
            own_process=True,
        )
        inspector = Inspector(connection, settings.keys)
        try:
            await inspector.workers()
            retention = Retention.of(connection, settings, telemetry.probe)
            reporter = Reporter(inspector, telemetry.probe, me=me, lease_ms=settings.lease_ms, retention=retention)
            telemetry.probe.monitoring()
            await reporter.run(until=until)
            telemetry.probe.monitoring_no_more()
        finally:
            await connection.aclose()
            await asyncio.to_thread(telemetry.shutdown)

    run(_until_stopped(main))


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[T]]) -> T:
    """Run *main* with an event that SIGTERM sets."""
    until = asyncio.Event()
    with signals.told(asyncio.get_running_loop(), until.set):
        return await main(until)


def _quiet_garbage_collection() -> None:
    """Leave what was imported out of every collection: it stays, and looking at it is a quarter of a call's cost."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION)


def _run_and_leave(main: Coroutine[Any, Any, int]) -> None:
    """Run *main* and leave with its exit code, without waiting for tools that do not let themselves be stopped."""
    code = new_loop().run_until_complete(main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
