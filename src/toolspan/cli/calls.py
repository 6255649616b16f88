"""The commands of a caller: call, tools."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from toolspan.cli.output import (
    FAILED,
    WRONG_USAGE,
    complain,
    example,
    fail,
    json_option,
    print_json,
    print_table,
    reported,
    run,
    say,
)
from toolspan.cli.redacting import redactor
from toolspan.codec import dumps, loads
from toolspan.errors import CallError
from toolspan.settings import Settings

if TYPE_CHECKING:
    from toolspan.model import Reply, ToolInfo


@click.command(**example('toolspan call echo \'{"text": "hello"}\' --timeout 5'))
@click.argument("tool")
@click.argument("args", default="{}")
@click.option("--timeout", type=click.FloatRange(min=0.001), default=30.0, show_default=True, help="Seconds to wait.")
@click.option("--idempotency-key", metavar="K", help="Calls with the same key and arguments are one call.")
@json_option
@reported
def call(*, tool: str, args: str, timeout: float, idempotency_key: str | None, as_json: bool) -> None:
    """Run TOOL with ARGS, a JSON object, and print its result; its progress on a terminal. Ctrl-C cancels it."""
    settings = Settings.load()
    redact = redactor(settings)
    try:
        arguments = loads(args.encode(), nesting=settings.max_nesting)
    except ValueError as exc:
        fail(f"ARGS is not JSON: {exc}", WRONG_USAGE)
    if not isinstance(arguments, dict):
        fail('ARGS is not a JSON object, such as \'{"text": "hello"}\'', WRONG_USAGE)

    from toolspan.gateway.asking import LONGEST_TIMEOUT  # noqa: PLC0415
    from toolspan.gateway.client import ToolClient  # noqa: PLC0415

    # Not a number is above nothing, so click lets it pass.
    if not 0 < timeout <= LONGEST_TIMEOUT:
        raise click.BadParameter(f"{timeout} is not above 0 and at most {LONGEST_TIMEOUT:g}", param_hint="'--timeout'")

    async def main() -> Reply:
        from toolspan.store import Connection  # noqa: PLC0415
        from toolspan.telemetry.one_shot import for_one_command  # noqa: PLC0415

        server = Connection.to(settings.redis_url).address
        me = f"{socket.gethostname()}-{os.getpid()}"
        async with (
            for_one_command(
                "gateway",
                keys=settings.keys,
                instance_id=me,
                server=server,
                complain=complain,
                redact=redact,
            ) as probe,
            ToolClient(settings, probe=probe) as client,
        ):
            # Progress is for people: programs ask for the result.
            if as_json or not sys.stderr.isatty():
                return await client.call(tool, arguments, timeout=timeout, idempotency_key=idempotency_key)
            # That Redis is not there is said by us, before the reader of replies finds out.
            await client.check()
            following = client.stream(tool, arguments, timeout=timeout, idempotency_key=idempotency_key)
            async with following:
                async for progress in following:
                    say(dumps(progress.value).decode(), err=True)
                return await following.reply()

    try:
        reply = run(main())
    except CallError as exc:
        if as_json:
            error = {"type": exc.type, "message": str(exc), "retryable": exc.retryable, "detail": exc.detail}
            print_json({"status": "error", "error": error, **(_about(exc.reply) if exc.reply else {})})
            sys.exit(FAILED)
        fail(f"{exc.type}: {exc}", FAILED)
    if as_json:
        print_json({"status": "ok", "result": reply.result, **_about(reply)})
        return
    print_json(reply.result)
    phases = ", ".join(f"{name} {ms:.1f} ms" for name, ms in _timings(reply).items())
    say(f"attempt {reply.attempt} on {reply.consumer}: {phases}", err=True)
    say(f"trace {reply.trace_id or 'none: set OTEL_EXPORTER_OTLP_ENDPOINT to have one'}", err=True)


@click.command(**example("toolspan tools --json"))
@json_option
@reported
def tools(as_json: bool) -> None:
    """List the tools that live workers serve now."""
    settings = Settings.load()

    async def main() -> list[tuple[ToolInfo, bool]]:
        from toolspan.operate.tools import served  # noqa: PLC0415

        return await served(settings)

    found = run(main())
    if as_json:
        print_json([{**asdict(tool), "paused": paused} for tool, paused in found])
        return
    rows = [
        (
            *(tool.name, ", ".join(tool.schema.get("properties", {})), tool.delivery),
            *("paused" if paused else "served", tool.description),
        )
        for tool, paused in found
    ]
    print_table(
        ("tool", "arguments", "delivery", "state", "description"), rows, empty="No live worker serves any tool."
    )


def _about(reply: Reply) -> dict[str, Any]:
    return {
        "id": reply.call_id,
        "entry_id": reply.entry_id,
        "attempt": reply.attempt,
        "consumer": reply.consumer,
        "timings": _timings(reply),
        "trace_id": reply.trace_id,
    }


def _timings(reply: Reply) -> dict[str, float]:
    return {name: ms for name, ms in asdict(reply.timings).items() if ms is not None}
